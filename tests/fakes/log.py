"""An in-memory Kafka at the port of sendtrace.runtime.kafka: partitions, offsets, transactions.

What it models as Kafka does: control records take offsets, read_committed stops at the last stable
offset, InitProducerId fences the previous holder and ends its open transaction, a stranger's commit
is refused. Harsher than Kafka: after a rebalance the old owner may go on until its next poll.

``on_point`` is called at every await point with (operation, name of the client): tests raise there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    OffsetOutOfRangeError,
    ProducerFenced,
)
from aiokafka.structs import RecordMetadata

from schemas.topics import TOPICS
from sendtrace.runtime.metadata import TopicState

BATCH_LIMIT_BYTES = 900_000


@dataclass
class Transaction:
    """Undecided until ``committed`` is set."""

    committed: bool | None = None
    partitions: set[TopicPartition] = field(default_factory=set)
    offsets: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)


@dataclass
class Entry:
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int
    transaction: Transaction | None
    control: bool = False


class MemoryLog:
    """The cluster. ``clients()`` gives the port that processes are wired with."""

    def __init__(self, partitions: int = 3, now_ms: Callable[[], int] = lambda: 0) -> None:
        self.partitions = partitions
        self.now_ms = now_ms
        self.on_point: Callable[[str, str], None] = lambda operation, name: None
        self.entries: dict[TopicPartition, list[Entry]] = {}  # by offset, deleted ones too
        self.begins: dict[TopicPartition, int] = {}
        self.made: dict[str, int] = {}  # how many times a topic was made anew
        self.counts: dict[str, int] = {}  # of partitions, where they are not as many as told
        self.epochs: dict[str, int] = {}
        self.open: dict[str, Transaction] = {}
        self.offsets: dict[tuple[str, TopicPartition], int] = {}
        self.groups: dict[str, list[MemoryConsumer]] = {}
        # The next sends in transactions that fail: as in aiokafka, only their future tells.
        self.failing_sends: list[Exception] = []
        self.failing_plain_sends: list[Exception] = []  # the same, of those outside
        self._names = itertools.count()

    # -- the port (sendtrace.runtime.kafka.Clients) --------------------------------------------

    def producer(
        self, *, transactional_id: str | None = None, max_batch_bytes: int = BATCH_LIMIT_BYTES
    ) -> MemoryProducer:
        name = f"producer-{next(self._names)}"
        return MemoryProducer(self, transactional_id, name, max_batch_bytes)

    def group_consumer(self, group: str, instance_id: str | None) -> MemoryConsumer:
        return MemoryConsumer(self, group, f"consumer-{next(self._names)}", instance_id)

    async def leave_group(self, group: str, instance_id: str) -> None:
        await asyncio.sleep(0)
        for member in list(self.groups.get(group, [])):
            if member.instance_id == instance_id:
                self.expire(member)

    def reader(self, *, resets: bool = True, committed: bool = True) -> MemoryConsumer:
        return MemoryConsumer(
            self, None, f"reader-{next(self._names)}", resets=resets, committed=committed
        )

    def topic_reader(self) -> MemoryTopicReader:
        return MemoryTopicReader(self)

    # -- for tests -----------------------------------------------------------------------------

    def put(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Append one committed record."""
        entry = Entry(key, value, headers, self.now_ms(), None)
        self.log(TopicPartition(topic, partition)).append(entry)

    def records(self, topic: str, partition: int | None = None) -> list[Entry]:
        """What a read_committed consumer sees, in order."""
        wanted = range(self.partitions) if partition is None else [partition]
        return [
            entry
            for p in wanted
            for entry in self.log(TopicPartition(topic, p))
            if not entry.control and _visible(entry)
        ]

    def remake(self, topic: str) -> None:
        """The topic is deleted, and made anew under its name."""
        self.made[topic] = self.made.get(topic, 0) + 1
        for tp in [tp for tp in self.entries if tp.topic == topic]:
            self.entries[tp] = []
            self.begins.pop(tp, None)

    def delete_until(self, tp: TopicPartition, offset: int) -> None:
        """What retention does."""
        self.begins[tp] = offset

    def expire(self, consumer: MemoryConsumer) -> None:
        """The group's coordinator has not heard of this member: it is out, and does not know."""
        for members in self.groups.values():
            if consumer in members:
                members.remove(consumer)
                self.rebalance(members)

    # -- inside --------------------------------------------------------------------------------

    async def point(self, operation: str, name: str) -> None:
        await asyncio.sleep(0)
        self.on_point(operation, name)

    def begin(self, tp: TopicPartition) -> int:
        return self.begins.get(tp, 0)

    def log(self, tp: TopicPartition) -> list[Entry]:
        return self.entries.setdefault(tp, [])

    def stable_end(self, tp: TopicPartition) -> int:
        log = self.log(tp)
        for offset, entry in enumerate(log):
            if entry.transaction is not None and entry.transaction.committed is None:
                return offset
        return len(log)

    def finish(self, transaction: Transaction, committed: bool) -> None:
        transaction.committed = committed
        for tp in transaction.partitions:
            self.log(tp).append(Entry(None, None, (), self.now_ms(), None, control=True))
        if committed:
            self.offsets.update(transaction.offsets)

    def rebalance(self, members: list[MemoryConsumer]) -> None:
        for member, partitions in zip(members, self.assignment(members), strict=True):
            member.incoming = partitions

    def assignment(self, members: list[MemoryConsumer]) -> list[set[TopicPartition]]:
        return [
            {
                TopicPartition(topic, p)
                for topic in member.topics
                for p in range(self.partitions)
                if p % len(members) == index
            }
            for index, member in enumerate(members)
        ]


def _visible(entry: Entry) -> bool:
    return entry.transaction is None or entry.transaction.committed is True


class MemoryBatch:
    def __init__(self, limit_bytes: int = BATCH_LIMIT_BYTES) -> None:
        self.entries: list[tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]] = []
        self._limit_bytes = limit_bytes
        self._size = 61

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> object | None:
        size = 20 + len(key or b"") + len(value or b"")
        size += sum(len(name) + len(content or b"") + 4 for name, content in headers)
        if self.entries and self._size + size > self._limit_bytes:
            return None
        self._size += size
        self.entries.append((key, value, headers))
        return self

    def record_count(self) -> int:
        return len(self.entries)

    def size(self) -> int:
        return self._size


class MemoryProducer:
    """Idempotent; transactional with an id. ``start`` is InitProducerId."""

    def __init__(
        self,
        log: MemoryLog,
        transactional_id: str | None,
        name: str,
        max_batch_bytes: int = BATCH_LIMIT_BYTES,
    ) -> None:
        self.log = log
        self.id = transactional_id
        self.name = name
        self._max_batch_bytes = max_batch_bytes
        self._epoch = -1
        self._transaction: Transaction | None = None

    async def start(self) -> None:
        await self.log.point("start", self.name)
        if self.id is not None:
            self._epoch = self.log.epochs[self.id] = self.log.epochs.get(self.id, -1) + 1
            undecided = self.log.open.pop(self.id, None)
            if undecided is not None:
                self.log.finish(undecided, committed=False)
        await self.log.point("started", self.name)

    async def stop(self) -> None:
        await asyncio.sleep(0)

    def create_batch(self) -> MemoryBatch:
        return MemoryBatch(self._max_batch_bytes)

    async def send_batch(
        self, batch: MemoryBatch, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        await self.log.point("send_batch", self.name)
        self._refuse_fenced()
        assert self.id is None or self._transaction is not None, "not in a transaction"
        tp = TopicPartition(topic, partition)
        log = self.log.log(tp)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        now_ms = self.log.now_ms()
        failing = self.log.failing_plain_sends if self.id is None else self.log.failing_sends
        if failing:
            future.set_exception(failing.pop(0))
            return future
        future.set_result(RecordMetadata(topic, partition, tp, len(log), now_ms, 1, 0))
        for key, value, headers in batch.entries:
            log.append(Entry(key, value, headers, now_ms, self._transaction))
        if self._transaction is not None:
            self._transaction.partitions.add(tp)
        return future

    async def begin_transaction(self) -> None:
        await self.log.point("begin_transaction", self.name)
        self._refuse_fenced()
        assert self.id is not None
        self._transaction = self.log.open[self.id] = Transaction()

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> None:
        await self.log.point("send_offsets_to_transaction", self.name)
        self._refuse_fenced()
        assert self._transaction is not None
        self._transaction.offsets.update({(group_id, tp): at for tp, at in offsets.items()})

    async def commit_transaction(self) -> None:
        await self.log.point("commit_transaction", self.name)
        self._end(committed=True)
        await self.log.point("transaction_committed", self.name)

    async def abort_transaction(self) -> None:
        await self.log.point("abort_transaction", self.name)
        self._end(committed=False)

    def _end(self, committed: bool) -> None:
        self._refuse_fenced()
        assert self.id is not None
        transaction = self.log.open.pop(self.id)
        assert transaction is self._transaction
        self.log.finish(transaction, committed)
        self._transaction = None

    def _refuse_fenced(self) -> None:
        if self.id is not None and self.log.epochs[self.id] != self._epoch:
            raise ProducerFenced


class MemoryConsumer:
    """read_committed. In a group its partitions come with the next ``getmany``."""

    def __init__(
        self,
        log: MemoryLog,
        group: str | None,
        name: str,
        instance_id: str | None = None,
        *,
        resets: bool = False,
        committed: bool = True,
    ) -> None:
        self.log = log
        self._resets = resets
        self._committed = committed  # else it is asked for ends alone
        self.group = group
        self.name = name
        self.instance_id = instance_id
        self.topics: list[str] = []
        self.incoming: set[TopicPartition] | None = None
        self._listener: Any = None
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._polled_ms: int | None = None

    def subscribe(self, topics: Sequence[str], *, listener: Any = None) -> None:
        self.topics, self._listener = list(topics), listener

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.group is not None:
            members = self.log.groups.setdefault(self.group, [])
            known = [member.instance_id for member in members if member.instance_id is not None]
            if self.instance_id in known:  # it is back, and the others are undisturbed
                members[[m.instance_id for m in members].index(self.instance_id)] = self
                self.incoming = self.log.assignment(members)[members.index(self)]
            else:
                members.append(self)
                self.log.rebalance(members)

    async def stop(self) -> None:
        await asyncio.sleep(0)
        if self.instance_id is None:  # a static member stays in the group until it expires
            self.log.expire(self)

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        self._positions = dict.fromkeys(partitions, 0)
        self._paused = set()

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        await self.log.point("getmany", self.name)
        await self._adopt()
        self._polled_ms = self.log.now_ms()
        wanted = partitions or tuple(self._positions)
        found = {tp: self._read(tp, max_records) for tp in wanted if tp not in self._paused}
        found = {tp: records for tp, records in found.items() if records}
        if not found and timeout_ms:
            await asyncio.sleep(min(timeout_ms, 1) / 1000)
        return found

    async def _adopt(self) -> None:
        if self.incoming is None:
            return
        incoming, self.incoming = self.incoming, None
        await self._listener.on_partitions_revoked(set(self._positions))
        self._positions = {
            tp: self.log.offsets.get((self.group or "", tp), 0) for tp in sorted(incoming)
        }
        self._paused = set()
        await self._listener.on_partitions_assigned(incoming)

    def _read(self, tp: TopicPartition, max_records: int | None) -> list[ConsumerRecord]:
        assert self._committed
        log, records = self.log.log(tp), []
        self._require_in_range(tp, len(log))
        offset, end = self._positions[tp], self.log.stable_end(tp)
        while offset < end and (max_records is None or len(records) < max_records):
            entry = log[offset]
            if not entry.control and _visible(entry):
                records.append(_record(tp, offset, entry))
            offset += 1
        self._positions[tp] = offset
        return records

    def _require_in_range(self, tp: TopicPartition, end: int) -> None:
        offset, begin = self._positions[tp], self.log.begin(tp)
        if not begin <= offset <= end:
            if not self._resets:
                raise OffsetOutOfRangeError({tp: offset})
            self._positions[tp] = begin

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition not in self._positions:
            raise IllegalStateError(f"{partition} is not assigned")
        self._positions[partition] = offset

    def pause(self, *partitions: TopicPartition) -> None:
        self._paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused -= set(partitions)

    async def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    async def end_offsets(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        await self.log.point("end_offsets", self.name)
        end = self.log.stable_end if self._committed else lambda tp: len(self.log.log(tp))
        return {tp: end(tp) for tp in partitions}

    async def beginning_offsets(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        return {tp: self.log.begin(tp) for tp in partitions}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        await self.log.point("commit", self.name)
        members = self.log.groups.get(self.group or "", [])
        if self not in members or self.incoming is not None:
            raise CommitFailedError
        self.log.offsets.update({(self.group or "", tp): at for tp, at in offsets.items()})

    def highwater(self, partition: TopicPartition) -> int | None:
        return len(self.log.log(partition))

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        return self.log.stable_end(partition)

    def last_poll_timestamp(self, partition: TopicPartition) -> int | None:
        return self._polled_ms


class MemoryTopicReader:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        await asyncio.sleep(0)

    async def describe(self, names: Collection[str]) -> dict[str, TopicState]:
        await asyncio.sleep(0)
        return {name: TopicState(self._id(name), self._count(name)) for name in names}

    def _id(self, name: str) -> str:
        return f"{name} {self._log.made.get(name, 0)}"

    def _count(self, name: str) -> int:
        stages = next((t.stages for t in TOPICS if name.endswith(f".{t.name}")), 1)
        return self._log.counts.get(name, self._log.partitions * stages)


def _record(tp: TopicPartition, offset: int, entry: Entry) -> ConsumerRecord:
    return ConsumerRecord(
        topic=tp.topic,
        partition=tp.partition,
        offset=offset,
        timestamp=entry.timestamp_ms,
        timestamp_type=1,
        key=entry.key,
        value=entry.value,
        checksum=None,
        serialized_key_size=len(entry.key or b""),
        serialized_value_size=len(entry.value or b""),
        headers=tuple(entry.headers),
    )
