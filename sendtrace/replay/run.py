"""Reads quarantine up to where it ends now, and puts through what is understood.

Once (docs/decisions/0040): in one transaction go the records and a mark of which they were, into
the partition of quarantine that they lie in. In this order:

1. InitProducerId: an earlier run that still goes on is fenced, and its transaction is over.
2. Take the ends, of what is committed and what is not yet. All marks of earlier runs are before
   them; the end of what is committed would be before a joiner's open transaction, and marks behind.
3. For each partition: read it for its marks, then once more for what has none.

So it may be killed anywhere and run again. A run that is overtaken by another one stops.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack

from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from msgspec import Struct, field

from schemas.codec import TYPE_REPLAYED, cloud_event, encode, event_id, header
from schemas.replayed import Replayed, decode_replayed
from schemas.topics import QUARANTINE, partition_of
from sendtrace.replay.judging import Again, Why, judge, reason_of
from sendtrace.runtime.kafka import (
    Clients,
    Consumer,
    Partition,
    Producer,
    Record,
    partitions_of,
    stop_quietly,
)
from sendtrace.runtime.outgoing import Outgoing, batches_of
from sendtrace.runtime.reading import open_reader, read_until
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import DependencyAway

INIT_TIMEOUT_SECONDS = 30.0
# Readers of the input topics wait for the end of a transaction: each is short.
TRANSACTION_RECORDS = 500
TRANSACTION_BYTES = 4 * 1_048_576
TRANSACTION_TIMEOUT_SECONDS = 10.0
# Quarantine takes what the edge takes, and the headers of a record grow a little.
BATCH_LIMIT_BYTES = 1_048_576 + 64 * 1_024
_SOURCE = "/replay"


class Overtaken(DependencyAway):
    """Another replay has begun since, and goes on where this one was."""


class Counts(Struct):
    """Of the records with one reason: what became of them."""

    replayed: int = 0
    earlier: int = 0  # put through by an earlier run
    left: Counter[str] = field(default_factory=Counter)  # by :class:`Why`


class Report(Struct):
    """What a run did, or (``dry_run``) would do."""

    dry_run: bool
    looked_at: int = 0
    topics: Counter[str] = field(default_factory=Counter)  # put through, by where they went
    reasons: dict[str, Counts] = field(default_factory=dict)

    def of(self, record: Record) -> Counts:
        return self.reasons.setdefault(reason_of(record.headers), Counts())


async def replay(
    clients: Clients,
    settings: Settings,
    reasons: Collection[str] = (),
    *,
    dry_run: bool = False,
    now_us: Callable[[], int],
) -> Report:
    """Put through what is understood now. Raises DependencyAway when Kafka is: run it again."""
    report = Report(dry_run)
    async with AsyncExitStack() as stack:
        pen = None
        if not dry_run:
            pen = _Pen(await _started(clients, settings), settings, now_us)  # 1
            stack.push_async_callback(stop_quietly, pen.producer)
        partitions = partitions_of(settings, QUARANTINE)
        ends = await _ends(clients, partitions)  # 2
        reader = await stack.enter_async_context(open_reader(clients, partitions))
        begins = await reader.beginning_offsets(partitions)
        for partition in partitions:  # 3
            bounds = {partition: ends[partition]}
            done = await _marked(reader, bounds)
            reader.seek(partition, begins[partition])
            await _put_through(reader, bounds, done, reasons, pen, report)
    return report


async def _started(clients: Clients, settings: Settings) -> Producer:
    producer = clients.producer(
        transactional_id=settings.topic("replay"), max_batch_bytes=BATCH_LIMIT_BYTES
    )
    try:
        await asyncio.wait_for(producer.start(), INIT_TIMEOUT_SECONDS)
    except BaseException as error:
        await stop_quietly(producer)
        if isinstance(error, TimeoutError):
            raise DependencyAway("Kafka did not answer InitProducerId") from error
        raise
    return producer


async def _ends(clients: Clients, partitions: Sequence[Partition]) -> dict[Partition, int]:
    async with open_reader(clients, partitions, committed=False) as reader:
        return await reader.end_offsets(partitions)


async def _marked(reader: Consumer, bounds: Mapping[Partition, int]) -> set[int]:
    """Which offsets earlier runs have put through."""
    done: set[int] = set()
    async for _, records in read_until(reader, bounds):
        for record in records:
            if _is_mark(record):
                done.update(decode_replayed(record.value).offsets)
    return done


def _is_mark(record: Record) -> bool:
    return header(record.headers, "ce_type") == TYPE_REPLAYED


async def _put_through(
    reader: Consumer,
    bounds: Mapping[Partition, int],
    done: set[int],
    reasons: Collection[str],
    pen: _Pen | None,
    report: Report,
) -> None:
    async for partition, records in read_until(reader, bounds):
        for record in records:
            if _is_mark(record):
                continue
            report.looked_at += 1
            if record.offset in done:
                report.of(record).earlier += 1
                continue
            origin = f"{QUARANTINE}-{partition.partition}-{record.offset}"
            told = judge(record.value, record.headers, origin, record.timestamp * 1000, reasons)
            if isinstance(told, Why):
                report.of(record).left[told] += 1
                continue
            report.of(record).replayed += 1
            report.topics[told.topic] += 1
            if pen is not None:
                await pen.write(record, told)
    if pen is not None:
        await pen.flush()


class _Pen:
    """Writes records of one partition of quarantine, with their marks, transaction by
    transaction."""

    def __init__(self, producer: Producer, settings: Settings, now_us: Callable[[], int]) -> None:
        self.producer = producer
        self._settings = settings
        self._now_us = now_us
        self._held: list[tuple[Record, Again]] = []
        self._bytes = 0

    async def write(self, record: Record, told: Again) -> None:
        self._held.append((record, told))
        self._bytes += len(record.value or b"")
        if len(self._held) >= TRANSACTION_RECORDS or self._bytes >= TRANSACTION_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """What is held, and the mark of it: all or nothing."""
        if not self._held:
            return
        try:
            async with asyncio.timeout(TRANSACTION_TIMEOUT_SECONDS):
                await self._transaction()
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Overtaken("Another replay has begun, and goes on where this one was") from error
        except (KafkaError, TimeoutError) as error:
            raise DependencyAway(
                f"Kafka did not take the records ({type(error).__name__}): run it again, nothing "
                "is put through twice"
            ) from error
        self._held.clear()
        self._bytes = 0

    async def _transaction(self) -> None:
        producer = self.producer
        await producer.begin_transaction()
        batches = batches_of(producer, [*map(self._again, self._held), self._mark()])
        acks = [
            await producer.send_batch(batch, self._settings.topic(topic), partition=partition)
            for topic, partition, batch in batches
        ]
        # A failed send does not stop aiokafka's commit (docs/aiokafka.md 4).
        await asyncio.gather(*acks)
        await producer.commit_transaction()

    def _again(self, held: tuple[Record, Again]) -> Outgoing:
        record, told = held
        home = partition_of(told.key, self._settings.partitions)
        return Outgoing(told.topic, home, told.key, record.value, told.headers)

    def _mark(self) -> Outgoing:
        partition = self._held[0][0].partition
        mark = encode(Replayed(offsets=tuple(record.offset for record, _ in self._held)))
        headers = cloud_event(
            ce_type=TYPE_REPLAYED,
            ce_id=event_id("REPLAY", f"{_SOURCE}/{partition}", mark),
            source=_SOURCE,
            at_us=self._now_us(),
            content_type="application/json",
        )
        return Outgoing(QUARANTINE, partition, None, mark, headers)
