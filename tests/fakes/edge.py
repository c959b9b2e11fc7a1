"""What the edge's tests stand on: a log whose acknowledgements can be held, and an edge over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession
from aiokafka.errors import KafkaConnectionError
from prometheus_client import CollectorRegistry

from ingest.app import dependencies, internal_server, public_server
from ingest.handlers import Dependencies
from ingest.metrics import Metrics
from ingest.publish import Publisher
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings

from fakes.log import BATCH_LIMIT_BYTES, MemoryBatch, MemoryLog, MemoryProducer


class HeldLog(MemoryLog):
    """A log that can be told to hold acknowledgements, and to fail batches or starts."""

    def __init__(self, partitions: int = 3) -> None:
        super().__init__(partitions)
        self.acknowledging = asyncio.Event()
        self.acknowledging.set()
        self.failing: list[BaseException] = []
        self.failing_starts = 0
        self.producers: list[HeldProducer] = []
        self.batch_sizes: list[int] = []

    def producer(
        self, *, transactional_id: str | None = None, max_batch_bytes: int = BATCH_LIMIT_BYTES
    ) -> HeldProducer:
        name = f"producer-{len(self.producers)}"
        made = HeldProducer(self, transactional_id, name, max_batch_bytes)
        self.producers.append(made)
        return made


class HeldProducer(MemoryProducer):
    log: HeldLog
    stopped = False

    async def start(self) -> None:
        if self.log.failing_starts:
            self.log.failing_starts -= 1
            raise KafkaConnectionError
        await super().start()

    async def stop(self) -> None:
        self.stopped = True

    async def send_batch(
        self, batch: MemoryBatch, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._acknowledge(batch, topic, partition))

    async def _acknowledge(self, batch: MemoryBatch, topic: str, partition: int) -> Any:
        self.log.batch_sizes.append(batch.record_count())
        await self.log.acknowledging.wait()
        if self.log.failing:
            raise self.log.failing.pop(0)
        return await (await super().send_batch(batch, topic, partition=partition))


@dataclass
class Edge:
    """The edge under test, and all that is around it."""

    log: HeldLog
    given: Dependencies
    publisher: Publisher
    registry: CollectorRegistry
    session: ClientSession
    public: str
    internal: str
    public_port: int

    def count(
        self,
        answer: str,
        route: str = "webhooks",
        reason: str | None = "",
        account: str | None = None,
    ) -> float:
        total = 0.0
        for metric in self.registry.collect():
            for sample in metric.samples:
                labels = sample.labels
                if (
                    sample.name == "sendtrace_edge_answers_total"
                    and (labels["answer"], labels["route"]) == (answer, route)
                    and (reason is None or labels["reason"] == reason)
                    and (account is None or labels["account"] == account)
                ):
                    total += sample.value
        return total

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def stored(self) -> int:
        return sum(len(entries) for entries in self.log.entries.values())


@asynccontextmanager
async def edge_over(log: HeldLog, settings: Settings) -> AsyncIterator[Edge]:
    """Both servers and the publisher on free ports, without what runs beside them: no pulse is
    stored. The whole process is ``fakes.wire.running_edge``."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    publisher = Publisher(log, settings, metrics)
    await publisher.start()
    given = dependencies(settings, publisher, metrics)
    async with (
        public_server(given, settings, 0) as public,
        internal_server(given, Health(), registry, settings, 0) as internal,
        ClientSession() as session,
    ):
        yield Edge(
            log,
            given,
            publisher,
            registry,
            session,
            f"http://127.0.0.1:{public}",
            f"http://127.0.0.1:{internal}",
            public,
        )
    log.acknowledging.set()
    await publisher.stop()
    assert publisher.in_flight.bytes == 0
    assert not publisher.broken.is_set()
