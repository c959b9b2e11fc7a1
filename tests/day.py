"""A joiner of one partition on the in-memory log, and a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.codec import encode
from schemas.events import Send
from schemas.lifecycle import Lifecycle
from schemas.pulses import Pulse
from sendtrace.runtime.settings import Settings

from engine import Output, output, running_joiner, status_body
from fakes.cluster import MemoryCluster

HOUR_MS = 3_600_000
START_MS = 1_790_000_000_000
ID = "id-000000"


class Day:
    """A joiner with one partition, and a clock that only the test moves."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster(
            Settings(topic_prefix="test.", partitions=1, transaction_interval_ms=1)
        )
        self.now_ms = START_MS
        self.cluster.log.now_ms = lambda: self.now_ms

    def put(self, topic: str, value: bytes, ce_type: str | None = None) -> None:
        headers = [("ce_type", ce_type.encode())] if ce_type else []
        self.cluster.log.put(f"test.{topic}", 0, ID.encode(), value, headers)

    def send(self) -> None:
        send = Send(
            message_id=ID, send_id="s", api="messages", channel="sms", account="acc",
            arrived_at_us=self.now_ms * 1000,
        )  # fmt: skip
        self.put("sends", encode(send))

    def status(self, status: str) -> None:
        self.put("statuses", status_body(ID, status))

    def pulse(self) -> None:
        self.put("pulses", encode(Pulse(edge="e", at_us=self.now_ms * 1000)))

    @asynccontextmanager
    async def joining(self) -> AsyncIterator[None]:
        cluster = self.cluster
        async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
            yield

    async def lifecycle(self, outcome: str, overdue: tuple[str, ...] = ()) -> Lifecycle:
        """Wait until it is so."""
        async with asyncio.timeout(60):
            while True:
                found = (await self.output()).lifecycles.get(ID)
                if found is not None and found.summary is not None:
                    kinds = tuple(entry.kind for entry in found.overdue)
                    if (found.summary.outcome, kinds) == (outcome, overdue):
                        return found
                await asyncio.sleep(0.02)

    async def output(self) -> Output:
        return await output(self.cluster.clients, self.cluster.settings)

    async def stays(self, outcome: str) -> None:
        """Give it time to be wrong."""
        await asyncio.sleep(1.2)
        assert (await self.lifecycle(outcome)).summary is not None
