"""The engine of a stage: partition p of its inputs, and the loop's commit on Kafka.

One transaction holds the changed values, the totals, the task's input positions and the group's
offsets. The commit keeps this order (its numbers stand in the code):

1. Ask the stage what changed; encode totals and ``@positions``.
2. Begin the transaction; send every batch.
3. Await every send's future: a failed send does not stop aiokafka's commit (docs/aiokafka.md 4).
4. Add the group's offsets (they serve lag tools only).
5. Commit.
6. Only then write the store, so that it is never ahead of Kafka.

Whatever fails in 2 to 5, the producer is replaced and the task recovers, which always is the full
sequence: drop what is uncommitted, InitProducerId (fences a zombie, ends its transaction), read the
own partition of the changelog and of ``totals`` to the end, take the positions from there. A
producer that inits anew and goes on from its own position doubles records (docs/aiokafka.md 3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced
from msgspec import Struct

from processors.restore import bounds_of, positions_within, read_changelog
from processors.stage import Changes, Stage, Tombstone
from processors.store import Entry, Meta, Store
from schemas.codec import Headers, decode_positions, decode_totals, encode
from schemas.metrics import GAP_RECORDS, GAPS
from schemas.topics import TOTALS, totals_partition
from schemas.totals import (
    POSITIONS,
    PositionsRecord,
    label_set,
    parse_key,
    positions_key,
    state_key,
    totals_key,
)
from sendtrace.runtime.kafka import (
    Clients,
    Consumer,
    Partition,
    Producer,
    Record,
    stop_quietly,
)
from sendtrace.runtime.outgoing import Outgoing, batches_of
from sendtrace.runtime.positions import Bounds, Gap, Saved, refuse
from sendtrace.runtime.reading import open_reader
from sendtrace.runtime.task import Fenced, PositionLost, StartOver

# With the broker away aiokafka's awaits never end (docs/aiokafka.md 9): every one of ours does.
INIT_TIMEOUT_SECONDS = 30.0
_NO_DEADLINE_IS_LATER_US = 1 << 62

log = logging.getLogger(__name__)


class EngineConfig(Struct, frozen=True):
    """What all tasks of a process share."""

    group: str
    topic_prefix: str
    partitions: int
    inputs: tuple[str, ...]  # names without prefix
    cluster: str
    commit_timeout_seconds: float
    # A store that was last at the end longer ago may have missed a tombstone.
    store_age_limit_ms: int
    # By name without prefix, as they were before anything was read (sendtrace/runtime/topic_watch).
    topic_ids: Mapping[str, str] = {}
    accept_gap: bool = False


class TransactionTask:
    """Partition ``partition`` of every input, exactly once. See the module for the order."""

    def __init__(
        self,
        partition: int,
        stage: Stage,
        store: Store,
        clients: Clients,
        config: EngineConfig,
        now_ms: Callable[[], int],
    ) -> None:
        self._partition = partition
        self._totals_partition = totals_partition(stage.name, partition, config.partitions)
        self._stage = stage
        self._store = store
        self._clients = clients
        self._config = config
        self._now_ms = now_ms
        self._producer: Producer | None = None
        self._next: dict[str, int] = {}
        self._saved = PositionsRecord()  # as it was restored last
        self._pending = 0

    # -- recovery ------------------------------------------------------------------------------

    async def recover(self) -> Mapping[Partition, int]:
        """The full sequence. Raises KafkaError or StartOver when it has to be tried again."""
        self._forget_uncommitted()
        self._store.mend()
        await self._replace_producer()
        await self._restore()
        return {self._own(name): offset for name, offset in self._next.items()}

    async def _replace_producer(self) -> None:
        old, self._producer = self._producer, None
        if old is not None:
            await stop_quietly(old)
        producer = self._clients.producer(
            transactional_id=f"{self._config.group}-{self._partition}"
        )
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes with the answer.
            async with asyncio.timeout(INIT_TIMEOUT_SECONDS):
                await producer.start()
        except BaseException as error:
            await stop_quietly(producer)
            if isinstance(error, TimeoutError):
                raise StartOver("Kafka did not answer InitProducerId") from error
            raise
        self._producer = producer

    async def _restore(self) -> None:
        config = self._config
        meta = self._store.meta
        age_ms = self._now_ms() - meta.caught_up_at_ms
        if meta.cluster != config.cluster or age_ms > config.store_age_limit_ms:
            self._store.reset()
        self._refuse_other_changelog(self._stored_positions())
        changelog = {self._own(name): name for name in self._written}
        inputs = [self._own(name) for name in config.inputs]
        async with open_reader(self._clients, [*changelog, *inputs]) as reader:
            bounds = await bounds_of(reader, inputs)
            await read_changelog(
                reader, self._store, changelog, config.cluster, self._now_ms, self._stage
            )
            self._load()
            self._refuse_other_changelog(self._saved)
            self._refuse_lost_positions()
            self._next = await self._positions(reader, bounds)

    async def _positions(
        self, reader: Consumer, bounds: Mapping[Partition, Bounds]
    ) -> dict[str, int]:
        """Where to go on. Raises PositionLost at a gap, or counts it where gaps are accepted."""
        config, saved = self._config, self._saved
        known = {
            self._own(name): Saved(saved.next[name], saved.topic_ids.get(name))
            for name in config.inputs
            if name in saved.next
        }
        topic_ids = {self._topic(name): its_id for name, its_id in config.topic_ids.items()}
        positions, gaps = await positions_within(reader, bounds, known, topic_ids)
        for gap in gaps:
            if not config.accept_gap:
                raise refuse(gap)
            self._count_gap(gap)
        return {name: positions[self._own(name)] for name in config.inputs}

    def _count_gap(self, gap: Gap) -> None:
        """In the transaction that moves the position over it: once, whatever fails before."""
        name = self._name(gap.partition)
        log.warning("a gap is accepted: %s; %d offsets are skipped", gap, gap.records)
        labels = (("input", name), ("reason", gap.reason))
        self._stage.totals.add(labels, GAPS.name, 1)
        self._stage.totals.add(labels, GAP_RECORDS.name, gap.records)
        if gap.reason == "remade":
            self._stage.made_anew(name, gap.saved)
        self._pending += 1

    def _stored_positions(self) -> PositionsRecord:
        """As the store has them, before it is brought to the topics' end.

        That is no second pass: labels that are strings sort before all label sets.
        """
        wanted = positions_key(self._stage.name, self._partition)
        found = (decode_positions(value) for key, value in self._store.totals() if key == wanted)
        return next(found, PositionsRecord())

    def _refuse_other_changelog(self, saved: PositionsRecord) -> None:
        """Raises PositionLost: without what it has written itself, a task would count anew."""
        for name in self._written:
            known, found = saved.topic_ids.get(name), self._config.topic_ids.get(name)
            if known and found and known != found:
                raise self._written_is_gone(name)

    def _refuse_lost_positions(self) -> None:
        """The same where there is no state to tell it: what is committed has positions beside it.
        Every value is due at some time."""
        if not self._saved.next and self._store.due(_NO_DEADLINE_IS_LATER_US, limit=1):
            raise self._written_is_gone(TOTALS)

    def _written_is_gone(self, name: str) -> PositionLost:
        return PositionLost(
            f"{self._topic(name)} was made anew, and what partition {self._partition} had "
            "written there is gone with it: restore the topic, or begin anew under another "
            "SENDTRACE_TOPIC_PREFIX with an empty database"
        )

    def _load(self) -> None:
        """Totals and positions, from the store."""
        self._saved = PositionsRecord()
        for key, value in self._store.totals():
            parsed = parse_key(key)
            if parsed.stage != self._stage.name or parsed.partition != self._partition:
                continue
            if isinstance(parsed.labels, dict):
                self._stage.totals.restore(label_set(parsed.labels), decode_totals(value))
            elif parsed.labels == POSITIONS:
                self._saved = decode_positions(value)
            else:
                self._stage.restore_state(parsed.labels, value)

    # -- feeding and commit --------------------------------------------------------------------

    def feed(self, partition: Partition, records: Sequence[Record]) -> None:
        """Work records in, in memory. Nothing leaves before ``commit``.

        Raises StartOver where the store is damaged, as ``advance`` and ``commit`` do.
        """
        topic = self._name(partition)
        self._pending += self._stage.feed(topic, records)
        self._next[topic] = records[-1].offset + 1

    def skip(self, partition: Partition, position: int) -> None:
        """Control records were passed. Saved, or retention that takes them looks like a loss."""
        self._next[self._name(partition)] = position
        self._pending += 1

    def advance(self, read_until_ms: int) -> None:
        self._pending += self._stage.advance(read_until_ms)

    def pending(self) -> int:
        return self._pending

    async def commit(self) -> None:
        """Everything fed so far, in one transaction. Raises StartOver (or Fenced)."""
        producer = self._producer
        if producer is None:
            raise StartOver("the producer is gone")
        changes = self._stage.changes()  # 1
        totals = self._encoded_totals(changes)
        try:
            async with asyncio.timeout(self._config.commit_timeout_seconds):
                ends = await self._transaction(producer, changes, totals)  # 2 to 5
        except (ProducerFenced, InvalidProducerEpoch, IllegalOperation) as error:
            # It says IllegalOperation when fenced between two sends (docs/aiokafka.md 6).
            raise Fenced(str(error)) from error
        except (KafkaError, TimeoutError) as error:
            raise StartOver(f"{type(error).__name__}: {error}") from error
        self._store.write(_stored(changes), totals, self._meta(ends), changes.deadlines)  # 6
        self._stage.settle()
        self._pending = 0

    def _encoded_totals(self, changes: Changes) -> list[tuple[bytes, bytes]]:
        name, partition = self._stage.name, self._partition
        entries = [
            (totals_key(name, partition, labels), encode(record))
            for labels, record in self._stage.totals.changed()
        ]
        entries += [(state_key(name, partition, label), v) for label, v in changes.states]
        positions = PositionsRecord(next=self._next, topic_ids=dict(self._config.topic_ids))
        return [*entries, (positions_key(name, partition), encode(positions))]

    async def _transaction(
        self,
        producer: Producer,
        changes: Changes,
        totals: list[tuple[bytes, bytes]],
    ) -> dict[str, int]:
        """Answers the offset after the last record of each own topic."""
        await producer.begin_transaction()  # 2
        changelog, own = self._stage.changelog, self._partition
        outgoing = [
            *(Outgoing(changelog, own, t.key, None, _reason(t)) for t in changes.tombstones),
            *(Outgoing(changelog, own, key, value, []) for key, value in changes.values),
            *(Outgoing(TOTALS, self._totals_partition, key, value, []) for key, value in totals),
            *changes.aside,
        ]
        batches = list(batches_of(producer, outgoing))
        acks = [
            await producer.send_batch(batch, self._topic(topic), partition=partition)
            for topic, partition, batch in batches
        ]
        metadata = await asyncio.gather(*acks)  # 3
        offsets = {self._own(name): offset for name, offset in self._next.items()}
        await producer.send_offsets_to_transaction(offsets, self._config.group)  # 4
        await producer.commit_transaction()  # 5
        ends: dict[str, int] = {}
        for (topic, partition, batch), ack in zip(batches, metadata, strict=True):
            if self._own(topic).partition == partition and topic in self._written:
                # An acknowledgement tells the first offset of its batch.
                ends[topic] = max(ends.get(topic, 0), ack.offset + batch.record_count())
        return ends

    def _meta(self, ends: Mapping[str, int]) -> Meta:
        following = dict(self._store.meta.next)
        following.update((n, ends[n]) for n in self._written if n in ends)
        return Meta(cluster=self._config.cluster, next=following, caught_up_at_ms=self._now_ms())

    # -- the rest ------------------------------------------------------------------------------

    async def close(self) -> None:
        self._forget_uncommitted()
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                await stop_quietly(producer)
        finally:
            self._store.close()  # or its lock keeps this process from taking the partition again

    def _forget_uncommitted(self) -> None:
        self._stage.forget()
        self._next = {}
        self._pending = 0

    def _name(self, partition: Partition) -> str:
        return str(partition.topic).removeprefix(self._config.topic_prefix)

    def _topic(self, name: str) -> str:
        return self._config.topic_prefix + name

    @property
    def _written(self) -> tuple[str, str]:
        """Topics of which one partition is this task's alone."""
        return self._stage.changelog, TOTALS

    def _own(self, name: str) -> Partition:
        number = self._totals_partition if name == TOTALS else self._partition
        return Partition(self._topic(name), number)


def _stored(changes: Changes) -> Iterable[Entry]:
    """What the store takes: of what is forgotten its remnant, and in the end nothing."""
    if changes.purged or changes.tombstones:
        yield from ((key, None) for key in changes.purged)
        yield from ((t.key, t.remnant) for t in changes.tombstones)
    yield from changes.values


def _reason(tombstone: Tombstone) -> Headers:
    return [("reason", tombstone.reason.encode())]
