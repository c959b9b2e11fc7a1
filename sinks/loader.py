"""Process `loader`: topic ``lifecycles`` to table ``messages``.

Must: lose nothing and keep its position, whatever is away; write each row with the offset it came
from in one transaction; keep what it cannot use in quarantine before its position moves past it;
stop, in one sentence, when the saved positions do not belong to the topic that is there. Which
partitions it reads and from where stands in the warehouse, never in a consumer group: of two
loaders one is ahead, the other starts over and stands by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter

from schemas.topics import LIFECYCLES, QUARANTINE
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import (
    Batch as KafkaBatch,
)
from sendtrace.runtime.kafka import (
    Clients,
    Consumer,
    KafkaClients,
    Partition,
    Producer,
    Record,
    partitions_of,
    stop_quietly,
)
from sendtrace.runtime.loop import Loop, LoopMetrics
from sendtrace.runtime.quarantine import Ratio, quarantine_headers
from sendtrace.runtime.service import Health, health_server, stop_on_signals
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.task import StartOver
from sendtrace.runtime.topics import DependencyAway
from sinks.changes import Batch, RowReason
from sinks.postgres import (
    AnotherLoaderAhead,
    PostgresWarehouse,
    Source,
    SourceChanged,
    Warehouse,
    WarehouseAway,
)
from sinks.rows import Version

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
# A database away for longer is no restart or failover: end, and be started again from outside.
TRIES = 120
# With the broker away aiokafka's awaits never end (AIOKAFKA 10).
QUARANTINE_ACK_SECONDS = 30.0

T = TypeVar("T")


class LoaderMetrics:
    """What the loader tells about its writing; the loop tells about the reading."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("sendtrace_loader_rows", "Rows written", registry=registry)
        self.deletions = Counter(
            "sendtrace_loader_deletions", "Rows of forgotten messages deleted", registry=registry
        )
        self.quarantined = Counter(
            "sendtrace_loader_quarantined", "Records of no use, kept aside", registry=registry
        )
        self.retries = Counter(
            "sendtrace_loader_retries", "Tries while PostgreSQL was away", registry=registry
        )


class LoadTask:
    """The loop's task: all partitions of ``lifecycles``, committed together."""

    def __init__(
        self,
        partitions: Collection[Partition],
        consumer: Consumer,
        producer: Producer,
        warehouse: Warehouse,
        settings: Settings,
        health: Health,
        stopping: asyncio.Event,
        metrics: LoaderMetrics,
    ) -> None:
        self._partitions = sorted(partitions)
        self._consumer = consumer
        self._producer = producer
        self._warehouse = warehouse
        self._settings = settings
        self._health = health
        self._stopping = stopping
        self._metrics = metrics
        self._epochs: dict[Partition, int] = {}
        self._saved: dict[Partition, int] = {}  # as the warehouse has it
        self._next: dict[Partition, int] = {}  # of the partitions fed since
        self._batch = Batch()
        self._unusable: list[tuple[Record, RowReason]] = []
        self._ratio = Ratio(settings.quarantine_ratio_limit)

    async def recover(self) -> Mapping[Partition, int]:
        """Drop what is staged and take the positions from the warehouse; begin where none are."""
        self._drop_staged()
        begins = await self._consumer.beginning_offsets(self._partitions)
        positions = await self._patiently(self._warehouse.positions)
        missing = {p: begins[p] for p in self._partitions if p not in positions}
        if missing:
            await self._patiently(lambda: self._warehouse.adopt(missing))
            positions = await self._patiently(self._warehouse.positions)
        topic = self._partitions[0].topic
        mine = {p: position for p, position in positions.items() if p.topic == topic}
        saved = {p: position.next for p, position in mine.items()}
        # Asked after the positions: the end only grows.
        ends = await self._consumer.end_offsets(self._partitions)
        require_same_log(self._partitions, saved, begins, ends)
        self._saved = saved
        self._epochs = {p: position.topic_epoch for p, position in mine.items()}
        return dict(saved)

    def feed(self, partition: Partition, records: Sequence[Record]) -> None:
        epoch = self._epochs[partition]
        add = self._batch.add
        for record in records:
            version = Version(epoch, partition.partition, record.offset)
            unusable = add(record.key, record.value, record.headers, version)
            if unusable is not None:
                self._unusable.append((record, unusable.reason))
        self._next[partition] = records[-1].offset + 1
        self._ratio.seen(len(records))

    def advance(self, read_until_ms: int) -> None:
        """Rows have no deadlines."""

    def skip(self, partition: Partition, position: int) -> None:
        """Nothing: a compacted log's beginning does not move."""

    def pending(self) -> int:
        return self._batch.fed

    async def commit(self) -> None:
        """Quarantine first, acknowledged; then rows and positions, in one transaction.

        Raises StartOver when another loader was faster. Ends the process (an exception) when
        PostgreSQL or Kafka is away for too long: nothing is lost, the position stays.
        """
        if self._unusable:
            self._ratio.unusable(len(self._unusable), self._unusable[-1][1].value)
            await self._quarantine()
        batch = self._batch
        rows, deletions = list(batch.rows.values()), list(batch.deletions.values())
        expected = {p: self._saved[p] for p in self._next}
        try:
            await self._patiently(
                lambda: self._warehouse.write(rows, deletions, expected, self._next)
            )
        except AnotherLoaderAhead as error:
            raise StartOver("another loader moved the positions") from error
        self._saved.update(self._next)
        self._metrics.rows.inc(len(rows))
        self._metrics.deletions.inc(len(deletions))
        self._drop_staged()

    async def close(self) -> None:
        self._drop_staged()

    def _drop_staged(self) -> None:
        self._batch = Batch()
        self._unusable = []
        self._next = {}

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(call, self._health, self._stopping, self._metrics)

    async def _quarantine(self) -> None:
        topic = self._settings.topic(QUARANTINE)
        batches: list[tuple[int, KafkaBatch]] = []
        for record, reason in self._unusable:
            if not batches or not self._append(batches[-1][1], record, reason):
                batches.append((record.partition, self._producer.create_batch()))
                # An empty batch takes one record of any size.
                self._append(batches[-1][1], record, reason)
        try:
            async with asyncio.timeout(QUARANTINE_ACK_SECONDS):
                acks = [
                    await self._producer.send_batch(batch, topic, partition=partition)
                    for partition, batch in batches
                ]
                await asyncio.gather(*acks)
        except TimeoutError as error:
            raise DependencyAway("Kafka does not acknowledge records for quarantine") from error
        self._metrics.quarantined.inc(len(self._unusable))

    def _append(self, batch: KafkaBatch, record: Record, reason: RowReason) -> bool:
        name = record.topic.removeprefix(self._settings.topic_prefix)
        origin = f"{name}-{record.partition}-{record.offset}"
        headers = quarantine_headers(record.headers, origin, reason.value)
        taken = batch.append(timestamp=None, key=record.key, value=record.value, headers=headers)
        return taken is not None


def require_same_log(
    partitions: Sequence[Partition],
    saved: Mapping[Partition, int],
    begins: Mapping[Partition, int],
    ends: Mapping[Partition, int],
) -> None:
    """Raises SourceChanged, in one sentence, when the saved positions cannot be this topic's."""
    topic = partitions[0].topic
    if set(saved) != set(partitions):
        raise SourceChanged(
            f"The warehouse was loaded from {len(saved)} partitions of {topic}, but "
            f"SENDTRACE_PARTITIONS is {len(partitions)}: the number of partitions is for life"
        )
    for partition in partitions:
        begin, at, end = begins[partition], saved[partition], ends[partition]
        if begin <= at <= end:
            continue
        found = f"begins at {begin}" if at < begin else f"ends at {end}"
        raise SourceChanged(
            f"The warehouse is at offset {at} of {topic} partition {partition.partition}, but that "
            f"{found}: it is not the log that was loaded; load an empty database, or restore the "
            "topic"
        )


async def patiently(
    call: Callable[[], Awaitable[T]],
    health: Health,
    stopping: asyncio.Event,
    metrics: LoaderMetrics,
) -> T:
    """Call until the warehouse answers, with growing pauses; WarehouseAway when it is enough.

    A stop does not wait for a database that is away: what is staged is read again next time.
    """
    was_ready = health.ready
    pause_seconds = FIRST_PAUSE_SECONDS
    for _ in range(TRIES):
        health.excuse()
        try:
            answer = await call()
        except WarehouseAway as error:
            if stopping.is_set():
                raise
            health.set_unready(str(error))
            metrics.retries.inc()
        else:
            if was_ready:
                health.set_ready()
            return answer
        await _sleep_unless(stopping, pause_seconds)
        pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
    return await call()


async def _sleep_unless(stopping: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


async def load(
    clients: Clients,
    warehouse: Warehouse,
    settings: Settings,
    health: Health,
    stopping: asyncio.Event,
    registry: CollectorRegistry | None = None,
    source: Source | None = None,
) -> None:
    """Keep the warehouse up to date until told to stop; what was read is then written.

    With a ``source``, SourceChanged if the warehouse was loaded from another one.
    """
    registry = registry or CollectorRegistry()
    metrics = LoaderMetrics(registry)
    if source is not None:
        await patiently(lambda: warehouse.remember(source), health, stopping, metrics)
    partitions = partitions_of(settings, LIFECYCLES)
    reader, producer = clients.reader(), clients.producer()
    try:
        await producer.start()
        await reader.start()
        loop = Loop(
            reader,
            lambda partition: partition.topic,
            lambda _, mine: LoadTask(
                mine, reader, producer, warehouse, settings, health, stopping, metrics
            ),
            interval_seconds=settings.loader_interval_ms / 1000,
            limit_records=settings.loader_batch_records,
            metrics=LoopMetrics(registry),
            health=health,
        )
        loop.assign(partitions)
        await loop.run(stopping)
    finally:
        await stop_quietly(reader)
        await stop_quietly(producer)


async def run(settings: Settings) -> None:
    """The process: until SIGTERM or SIGINT. Another Kafka cluster than before stops it."""
    stopping = stop_on_signals()
    health, registry = Health(), CollectorRegistry()
    warehouse = PostgresWarehouse(settings.postgres_dsn)
    async with health_server(health, registry, settings.bind_address, settings.port("loader")):
        await topics.require(settings)
        source = Source(settings.topic(LIFECYCLES), await topics.cluster_id(settings))
        try:
            clients = KafkaClients(settings)
            await load(clients, warehouse, settings, health, stopping, registry, source)
        finally:
            await warehouse.close()
