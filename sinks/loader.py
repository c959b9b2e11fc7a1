"""Process `loader`: topics ``lifecycles``, ``rollups`` and ``inbound`` to the warehouse's tables.

Must: lose nothing and keep its position, whatever is away; write each row with the offset it came
from in one transaction; keep what it cannot use in quarantine before its position moves past it;
stop, in one sentence, when the saved positions do not belong to the topic that is there. Which
partitions it reads and from where stands in the warehouse, never in a consumer group: of two
loaders one is ahead, the other starts over and stands by. One row that the database refuses does
not hold the others up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter

from schemas.topics import INBOUND, LIFECYCLES, QUARANTINE, ROLLUPS
from sendtrace.runtime import topics
from sendtrace.runtime.accounts import read_terms
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
from sendtrace.runtime.positions import Bounds, Gap, Saved, gaps_of, refuse
from sendtrace.runtime.quarantine import Ratio, kept
from sendtrace.runtime.service import Health, health_server, stop_on_signals
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.task import StartOver
from sendtrace.runtime.topic_watch import watching
from sendtrace.runtime.topics import DependencyAway
from sinks.changes import Batch, Changes, RowReason
from sinks.postgres import (
    AnotherLoaderAhead,
    Position,
    PostgresWarehouse,
    RowsRefused,
    Source,
    SourceChanged,
    Warehouse,
    WarehouseAway,
)
from sinks.rows import TABLES, InboundReading, Version

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
# A database away for longer is no restart or failover: end, and be started again from outside.
TRIES = 120
# With the broker away aiokafka's awaits never end (docs/aiokafka.md 9).
QUARANTINE_ACK_SECONDS = 30.0
TOPICS = (LIFECYCLES, ROLLUPS, INBOUND)
# Retention goes in small steps between the writes: some 50 ms each.
PURGE_LIMIT_ROWS = 2_000
PURGE_STEP_SECONDS = 0.5
PURGE_PAUSE_SECONDS = 60.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class LoaderMetrics:
    """What the loader tells about its writing; the loop tells about the reading."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter(
            "sendtrace_loader_rows", "Rows written, by table", ["table"], registry=registry
        )
        for table in TABLES:
            self.rows.labels(table.name)
        self.deletions = Counter(
            "sendtrace_loader_deletions", "Messages and sends forgotten", registry=registry
        )
        self.purged = Counter(
            "sendtrace_loader_purged", "Rows deleted by the retention", registry=registry
        )
        self.quarantined = Counter(
            "sendtrace_loader_quarantined", "Records of no use, kept aside", registry=registry
        )
        self.gaps = Counter(
            "sendtrace_loader_gaps",
            "Positions that --accept-gap ever went on from elsewhere, by topic",
            ["topic"],
            registry=registry,
        )
        self.gap_records = Counter(
            "sendtrace_loader_gap_records",
            "Offsets that were not loaded because of them",
            ["topic"],
            registry=registry,
        )
        # Shown from when the positions are known: 0 until then would look like a new gap after it.
        self.retries = Counter(
            "sendtrace_loader_retries", "Tries while PostgreSQL was away", registry=registry
        )


class LoadTask:
    """The loop's task: all partitions of all topics, committed together."""

    def __init__(
        self,
        partitions: Collection[Partition],
        consumer: Consumer,
        producer: Producer,
        warehouse: Warehouse,
        settings: Settings,
        reading: InboundReading,
        health: Health,
        stopping: asyncio.Event,
        metrics: LoaderMetrics,
        topic_ids: Mapping[str, str],
        accept_gap: bool,
    ) -> None:
        self._partitions = sorted(partitions)
        self._topic_ids = topic_ids
        self._accept_gap = accept_gap
        self._told_gaps: Counts[str] = Counts()
        self._told_gap_records: Counts[str] = Counts()
        self._consumer = consumer
        self._producer = producer
        self._warehouse = warehouse
        self._settings = settings
        self._health = health
        self._stopping = stopping
        self._metrics = metrics
        self._reading = reading
        self._epochs: dict[Partition, int] = {}
        self._saved: dict[Partition, int] = {}  # as the warehouse has it
        self._next: dict[Partition, int] = {}  # of the partitions fed since
        self._names = {settings.topic(name): name for name in TOPICS}
        self._drop_staged()
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
        mine = await self._past_gaps(positions, begins)
        self._tell_gaps(mine)
        self._saved = {p: position.next for p, position in mine.items()}
        self._epochs = {p: position.topic_epoch for p, position in mine.items()}
        return dict(self._saved)

    async def _past_gaps(
        self, positions: Mapping[Partition, Position], begins: Mapping[Partition, int]
    ) -> Mapping[Partition, Position]:
        """The positions of our topics, where the log has them. Raises PositionLost at a gap, unless
        gaps are accepted: then they are moved on, and counted."""
        mine = {p: position for p, position in positions.items() if p.topic in self._names}
        require_all_partitions(self._partitions, mine)
        # Asked after the positions: the end only grows.
        ends = await self._consumer.end_offsets(self._partitions)
        gaps = gaps_of(
            {p: Saved(position.next, position.topic_id) for p, position in mine.items()},
            {p: Bounds(begins[p], ends[p]) for p in self._partitions},
            self._topic_ids,
        )
        if gaps:
            await self._skip(gaps)
        elif all(position.topic_id for position in mine.values()):
            return mine
        await self._patiently(lambda: self._warehouse.identify(self._topic_ids))
        found = await self._patiently(self._warehouse.positions)
        return {p: found[p] for p in mine}

    async def _skip(self, gaps: Sequence[Gap]) -> None:
        if not self._accept_gap:
            raise refuse(gaps[0])
        try:
            await self._patiently(lambda: self._warehouse.skip(gaps, self._topic_ids))
        except AnotherLoaderAhead as error:
            raise StartOver("another loader went on after the gap") from error
        for gap in gaps:
            log.warning("a gap is accepted: %s; %d offsets are skipped", gap, gap.records)

    def _tell_gaps(self, positions: Mapping[Partition, Position]) -> None:
        """All that were ever accepted: they are counted where the positions are kept."""
        gaps: Counts[str] = Counts()
        records: Counts[str] = Counts()
        for partition, position in positions.items():
            name = self._names[partition.topic]
            gaps[name] += position.gaps
            records[name] += position.gap_records
        for name in gaps:
            self._metrics.gaps.labels(name).inc(gaps[name] - self._told_gaps[name])
            self._metrics.gap_records.labels(name).inc(records[name] - self._told_gap_records[name])
        self._told_gaps, self._told_gap_records = gaps, records

    def feed(self, partition: Partition, records: Sequence[Record]) -> None:
        name, epoch = self._names[partition.topic], self._epochs[partition]
        for record in records:
            version = Version(epoch, partition.partition, record.offset)
            unusable = self._batch.add(name, record, version)
            if unusable is not None:
                self._unusable.append((record, unusable.reason))
        self._fed.append((partition, records))
        self._next[partition] = records[-1].offset + 1
        self._ratio.seen(len(records))

    def advance(self, read_until_ms: int) -> None:
        """Rows have no deadlines."""

    def skip(self, partition: Partition, position: int) -> None:
        """Of `inbound` it is saved, or retention that takes control records looks like a loss. The
        others are compacted: their beginning does not move."""
        if partition.topic == self._settings.topic(INBOUND):
            self._next[partition] = position
            self._skipped += 1

    def pending(self) -> int:
        return self._batch.fed + self._skipped

    async def commit(self) -> None:
        """Quarantine first, acknowledged; then rows and positions, in one transaction.

        Raises StartOver when another loader was faster. Ends the process (an exception) when
        PostgreSQL or Kafka is away for too long: nothing is lost, the position stays.
        """
        if self._unusable:
            self._ratio.unusable(len(self._unusable), self._unusable[-1][1])
            await self._quarantine()
        changes = self._batch.changes()
        expected = {p: self._saved[p] for p in self._next}
        try:
            await self._write(changes, expected, self._next)
        except RowsRefused:
            await self._write_one_by_one(changes, expected)
        self._saved.update(self._next)
        self._drop_staged()

    async def _write(
        self, changes: Changes, expected: Mapping[Partition, int], new: Mapping[Partition, int]
    ) -> None:
        try:
            await self._patiently(lambda: self._warehouse.write(changes, expected, new))
        except AnotherLoaderAhead as error:
            raise StartOver("another loader moved the positions") from error
        self._count(changes)

    async def _write_one_by_one(self, changes: Changes, expected: Mapping[Partition, int]) -> None:
        """Find the rows that the database refuses, by halves; then they are in quarantine too.

        What is written on the way is ahead of the positions: read again it changes nothing.
        """
        self._unusable.clear()
        left = [changes]
        while left:
            tried = left.pop()
            try:
                await self._write(tried, expected, expected)
            except RowsRefused:
                halves = tried.halves()
                left += halves
                if not (halves or tried.messages or tried.rollups or tried.inbound):
                    raise  # what is forgotten must go: someone's rule on the table forbids it
                if not halves:
                    self._unusable.append((self._record_of(tried), RowReason.REFUSED))
        self._ratio.unusable(len(self._unusable), RowReason.REFUSED)
        await self._quarantine()
        await self._write(Changes(), expected, self._next)

    def _record_of(self, change: Changes) -> Record:
        """Where the only row of a change came from: its last columns say it."""
        topic, rows = next(
            (topic, rows)
            for topic, rows in zip(
                self._names, (change.messages, change.rollups, change.inbound), strict=True
            )
            if rows
        )
        _, partition, offset = Version(*rows[0][-3:])  # type: ignore[arg-type]
        return next(
            record
            for fed, records in self._fed
            if fed == (topic, partition)
            for record in records
            if record.offset == offset
        )

    def _count(self, changes: Changes) -> None:
        written = (changes.messages, changes.events, changes.rollups, changes.inbound)
        for table, rows in zip(TABLES, written, strict=True):
            self._metrics.rows.labels(table.name).inc(len(rows))
        self._metrics.deletions.inc(len(changes.deletions) + len(changes.rollup_deletions))

    async def close(self) -> None:
        self._drop_staged()

    def _drop_staged(self) -> None:
        self._batch = Batch(self._reading)
        self._unusable: list[tuple[Record, str]] = []
        self._fed: list[tuple[Partition, Sequence[Record]]] = []
        self._skipped = 0
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

    def _append(self, batch: KafkaBatch, record: Record, reason: str) -> bool:
        name = record.topic.removeprefix(self._settings.topic_prefix)
        origin = f"{name}-{record.partition}-{record.offset}"
        key, value, headers = kept(record, origin, reason)
        taken = batch.append(timestamp=None, key=key, value=value, headers=headers)
        return taken is not None


def require_all_partitions(partitions: Collection[Partition], saved: Collection[Partition]) -> None:
    """Raises SourceChanged, in one sentence, when the positions are of more partitions."""
    for topic in sorted({partition.topic for partition in saved} & _topics(partitions)):
        found = len([partition for partition in saved if partition.topic == topic])
        wanted = len([partition for partition in partitions if partition.topic == topic])
        if found != wanted:
            raise SourceChanged(
                f"The warehouse was loaded from {found} partitions of {topic}, but "
                f"SENDTRACE_PARTITIONS is {wanted}: the number of partitions is for life"
            )


def _topics(partitions: Collection[Partition]) -> set[str]:
    return {partition.topic for partition in partitions}


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
    cluster_id: str | None = None,
    *,
    accept_gap: bool = False,
) -> None:
    """Keep the warehouse up to date until told to stop; what was read is then written.

    With a ``cluster_id``, SourceChanged if the warehouse was loaded from another cluster.
    """
    registry = registry or CollectorRegistry()
    metrics = LoaderMetrics(registry)
    reading = inbound_reading(settings)
    if cluster_id is not None:
        for topic in TOPICS:
            source = Source(settings.topic(topic), cluster_id)
            await patiently(partial(warehouse.remember, source), health, stopping, metrics)
    partitions = [partition for topic in TOPICS for partition in partitions_of(settings, topic)]
    purging = asyncio.create_task(purge(warehouse, settings, stopping, metrics))
    # What it did not foresee must not go unnoticed until the stop.
    purging.add_done_callback(lambda _: stopping.set())
    reader, producer = clients.reader(resets=False), clients.producer()
    try:
        async with watching(clients, settings, TOPICS) as watch:
            await producer.start()
            await reader.start()

            def make_task(_: Hashable, mine: frozenset[Partition]) -> LoadTask:
                return LoadTask(
                    mine, reader, producer, warehouse, settings, reading, health, stopping,
                    metrics, watch.topic_ids, accept_gap,
                )  # fmt: skip

            loop = Loop(
                reader,
                lambda _: "all",  # one task: what is written together is read together
                make_task,
                interval_seconds=settings.loader_interval_ms / 1000,
                limit_records=settings.loader_batch_records,
                metrics=LoopMetrics(registry),
                health=health,
                check=watch.check,
            )
            loop.assign(partitions)
            await loop.run(stopping)
            await purging
    finally:
        purging.cancel()
        await stop_quietly(reader)
        await stop_quietly(producer)


def inbound_reading(settings: Settings) -> InboundReading:
    """Reads the accounts file. Raises SettingsError with a sentence."""
    return InboundReading(
        keep_text=settings.text == "keep",
        default_currency=settings.default_currency,
        currencies=read_terms(settings.accounts_file).currencies,
        test_accounts=frozenset(settings.listed("test_accounts")),
    )


async def purge(
    warehouse: Warehouse, settings: Settings, stopping: asyncio.Event, metrics: LoaderMetrics
) -> None:
    """Delete what is older than the retention, in small steps between the writes, until stopping.

    While the database is away there is nothing to hurry for: the writing waits and says so.
    """
    retention_days = settings.warehouse_retention_days
    if not retention_days:
        await stopping.wait()
    while not stopping.is_set():
        before = datetime.now(UTC) - timedelta(days=retention_days)
        try:
            deleted = await warehouse.purge(before, PURGE_LIMIT_ROWS)
        except WarehouseAway:
            deleted = 0
        metrics.purged.inc(deleted)
        full = deleted >= PURGE_LIMIT_ROWS
        await _sleep_unless(stopping, PURGE_STEP_SECONDS if full else PURGE_PAUSE_SECONDS)


async def run(settings: Settings, *, accept_gap: bool = False) -> None:
    """The process: until SIGTERM or SIGINT. Another Kafka cluster than before stops it."""
    stopping = stop_on_signals()
    health, registry = Health(), CollectorRegistry()
    warehouse = PostgresWarehouse(settings.postgres_dsn)
    async with health_server(health, registry, settings.bind_address, settings.port("loader")):
        await topics.require(settings)
        cluster_id = await topics.cluster_id(settings)
        try:
            clients = KafkaClients(settings)
            await load(
                clients,
                warehouse,
                settings,
                health,
                stopping,
                registry,
                cluster_id,
                accept_gap=accept_gap,
            )
        finally:
            await warehouse.close()
