"""A joiner task: partition p of the inputs, and the loop's commit on Kafka.

One transaction holds the lifecycles, the totals, the task's input positions and the group's
offsets. The commit keeps this order (its numbers stand in the code):

1. Encode what changed: lifecycles, totals, ``@positions``.
2. Begin the transaction; send every batch.
3. Await every send's future: a failed send does not stop aiokafka's commit (AIOKAFKA 3).
4. Add the group's offsets (they serve lag tools only).
5. Commit.
6. Only then write the store, so that it is never ahead of Kafka.

Whatever fails in 2 to 5, the producer is replaced and the task recovers, which always is the full
sequence: drop what is uncommitted, InitProducerId (fences a zombie, ends its transaction), read the
own partition of ``lifecycles`` and ``totals`` to the end, take the positions from there. A producer
that inits anew and goes on from its own position doubles records (AIOKAFKA 23).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
)
from msgspec import Struct
from msgspec.structs import replace

from processors.join import facts
from processors.join.contribution import Totals, contribution
from processors.join.derive import summarise
from processors.restore import open_reader, positions_within_log, read_changelog
from processors.store import Meta, Store
from schemas.codec import (
    TYPE_QUARANTINE,
    Headers,
    decode_lifecycle,
    decode_positions,
    decode_totals,
    encode,
)
from schemas.events import Send
from schemas.lifecycle import Lifecycle
from schemas.topics import LIFECYCLES, QUARANTINE, TOTALS, partition_of
from schemas.totals import (
    POSITIONS,
    PositionsRecord,
    label_set,
    parse_key,
    positions_key,
    totals_key,
)
from schemas.vonage.decode import Unusable, decode
from sendtrace.runtime.kafka import Batch, Clients, Partition, Producer, Record, stop_quietly
from sendtrace.runtime.loop import Fenced, StartOver

STAGE = "join"
REROUTED = "st_rerouted"
# With the broker away aiokafka's awaits never end (AIOKAFKA 10): every one of ours does.
INIT_TIMEOUT_SECONDS = 30.0
# How many records must have been seen before the quarantine ratio means anything.
QUARANTINE_SAMPLE = 1_000


class TooMuchQuarantine(Exception):
    """More records than the limit are unusable: a bad deploy must stop, not drain the topic."""


class TaskConfig(Struct, frozen=True):
    """What every task of a joiner shares."""

    group: str
    topic_prefix: str
    inputs: tuple[str, ...]  # names without prefix
    partitions: int
    cluster: str
    default_currency: str
    cache_size: int
    label_set_limit: int
    quarantine_ratio_limit: float
    commit_timeout_seconds: float
    # A store that was last at the end longer ago may have missed a tombstone.
    store_age_limit_ms: int


class _Outgoing(Struct, frozen=True):
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class JoinTask:
    """Partition ``partition`` of every input, exactly once. See the module for the order."""

    def __init__(
        self,
        partition: int,
        clients: Clients,
        store: Store,
        config: TaskConfig,
        now_ms: Callable[[], int],
    ) -> None:
        self._partition = partition
        self._clients = clients
        self._store = store
        self._config = config
        self._now_ms = now_ms
        self._producer: Producer | None = None
        self._totals = Totals(config.label_set_limit)
        # What the store holds, decoded: the least recently used go first.
        self._cache: OrderedDict[str, Lifecycle] = OrderedDict()
        self._dirty: dict[str, Lifecycle] = {}
        self._side: list[_Outgoing] = []
        self._next: dict[str, int] = {}
        self._pending = 0
        self._seen = 0
        self._quarantined = 0

    # -- recovery ------------------------------------------------------------------------------

    async def recover(self) -> Mapping[Partition, int]:
        """The full sequence. Raises KafkaError or StartOver when Kafka refuses: try again."""
        self._forget_uncommitted()
        await self._replace_producer()
        await self._restore()
        return {self._input(name): offset for name, offset in self._next.items()}

    async def _replace_producer(self) -> None:
        old, self._producer = self._producer, None
        if old is not None:
            await stop_quietly(old)
        producer = self._clients.producer(
            transactional_id=f"{self._config.group}-{self._partition}"
        )
        try:
            await asyncio.wait_for(producer.start(), INIT_TIMEOUT_SECONDS)
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
        changelog, inputs = self._changelog(), [self._input(name) for name in config.inputs]
        async with open_reader(self._clients, [*changelog, *inputs]) as reader:
            await read_changelog(reader, self._store, changelog, config.cluster, self._now_ms)
            self._load()
            known = {self._input(name): self._next.get(name) for name in config.inputs}
            positions = await positions_within_log(reader, known)
            self._next = {name: positions[self._input(name)] for name in config.inputs}

    def _load(self) -> None:
        """Totals and positions, from the store."""
        self._totals.clear()
        self._next = {}
        for key, value in self._store.totals():
            parsed = parse_key(key)
            if parsed.stage != STAGE or parsed.partition != self._partition:
                continue
            if isinstance(parsed.labels, dict):
                self._totals.restore(label_set(parsed.labels), decode_totals(value))
            elif parsed.labels == POSITIONS:
                self._next = dict(decode_positions(value).next)

    # -- feeding -------------------------------------------------------------------------------

    def feed(self, partition: Partition, records: Sequence[Record]) -> None:
        """Join records into lifecycles, in memory. Nothing leaves before ``commit``."""
        topic = partition.topic.removeprefix(self._config.topic_prefix)
        new = repeats = 0
        for record in records:
            decoded = decode(topic, record.value, record.headers, record.timestamp * 1000)
            if isinstance(decoded, Unusable):
                self._quarantine(topic, record, decoded.reason)
                continue
            home = partition_of(decoded.message_id.encode(), self._config.partitions)
            if home != self._partition:
                self._reroute(topic, record, decoded.message_id, home)
                continue
            before = self._lifecycle(decoded.message_id)
            if isinstance(decoded, Send):
                after = facts.with_send(before, decoded)
            else:
                after = facts.with_fact(before, decoded.fact)
            if after is before:
                repeats += 1
                continue
            new += 1
            self._dirty[decoded.message_id] = after
        if new:
            self._totals.count(topic, "new", new)
        if repeats:
            self._totals.count(topic, "repeat", repeats)
        self._next[topic] = records[-1].offset + 1
        self._pending += len(records)
        self._seen += len(records)

    def _lifecycle(self, message_id: str) -> Lifecycle:
        dirty = self._dirty.get(message_id)
        return dirty if dirty is not None else self._committed(message_id)

    def _committed(self, message_id: str) -> Lifecycle:
        """The lifecycle as it stands in Kafka, from the cache or the store."""
        cached = self._cache.get(message_id)
        if cached is not None:
            self._cache.move_to_end(message_id)
            return cached
        value = self._store.lifecycle(message_id)
        found = facts.empty(message_id) if value is None else decode_lifecycle(value)
        self._remember(found)
        return found

    def _remember(self, lifecycle: Lifecycle) -> None:
        self._cache[lifecycle.message_id] = lifecycle
        self._cache.move_to_end(lifecycle.message_id)
        if len(self._cache) > self._config.cache_size:
            self._cache.popitem(last=False)

    def _quarantine(self, topic: str, record: Record, reason: str) -> None:
        self._quarantined += 1
        self._totals.count(topic, "quarantined")
        headers: Headers = [
            *record.headers,
            ("reason", reason.encode()),
            ("st_origin", f"{topic}-{record.partition}-{record.offset}".encode()),
        ]
        if not any(name == "ce_type" for name, _ in headers):
            headers.append(("ce_type", TYPE_QUARANTINE.encode()))
        self._side.append(_Outgoing(QUARANTINE, self._partition, record.key, record.value, headers))
        if (
            self._seen >= QUARANTINE_SAMPLE
            and self._quarantined > self._seen * self._config.quarantine_ratio_limit
        ):
            raise TooMuchQuarantine(
                f"{self._quarantined} of {self._seen} records of partition {self._partition} are "
                f"unusable (last: {reason}). Look into topic {QUARANTINE} before starting again"
            )

    def _reroute(self, topic: str, record: Record, message_id: str, home: int) -> None:
        """Another client's partitioner was at work: once more, unchanged, where it belongs."""
        if any(name == REROUTED for name, _ in record.headers):
            self._quarantine(topic, record, "rerouted twice")
            return
        self._totals.count(topic, "rerouted")
        origin = f"{topic}-{record.partition}-{record.offset}".encode()
        headers: Headers = [*record.headers, (REROUTED, origin)]
        self._side.append(_Outgoing(topic, home, message_id.encode(), record.value, headers))

    def pending(self) -> int:
        return self._pending

    # -- commit --------------------------------------------------------------------------------

    async def commit(self) -> None:
        """Everything fed so far, in one transaction. Raises StartOver (or Fenced)."""
        producer = self._producer
        if producer is None:
            raise StartOver("the producer is gone")
        changed = self._summarised()  # 1
        lifecycles = [(c.message_id.encode(), encode(c)) for c in changed]
        totals = self._encoded_totals()
        try:
            async with asyncio.timeout(self._config.commit_timeout_seconds):
                ends = await self._transaction(producer, lifecycles, totals)  # 2 to 5
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(str(error)) from error
        except (KafkaError, TimeoutError) as error:
            raise StartOver(f"{type(error).__name__}: {error}") from error
        self._store.write(lifecycles, totals, self._meta(ends))  # 6
        for lifecycle in changed:
            self._remember(lifecycle)
        self._totals.settle()
        self._dirty.clear()
        self._side.clear()
        self._pending = 0

    def _summarised(self) -> list[Lifecycle]:
        """Derive each changed lifecycle anew, and move the totals by the difference."""
        changed = []
        for message_id, lifecycle in self._dirty.items():
            summary = summarise(lifecycle, self._config.default_currency)
            before = self._committed(message_id).summary
            self._totals.move(contribution(before), contribution(summary))
            changed.append(replace(lifecycle, summary=summary))
        return changed

    def _encoded_totals(self) -> list[tuple[bytes, bytes]]:
        entries = [
            (totals_key(STAGE, self._partition, labels), encode(record))
            for labels, record in self._totals.changed()
        ]
        positions = PositionsRecord(next=self._next)
        return [*entries, (positions_key(STAGE, self._partition), encode(positions))]

    async def _transaction(
        self,
        producer: Producer,
        lifecycles: list[tuple[bytes, bytes]],
        totals: list[tuple[bytes, bytes]],
    ) -> dict[str, int]:
        await producer.begin_transaction()  # 2
        outgoing = [
            *(_Outgoing(LIFECYCLES, self._partition, key, value, []) for key, value in lifecycles),
            *(_Outgoing(TOTALS, self._partition, key, value, []) for key, value in totals),
            *self._side,
        ]
        batches = list(_batches(producer, outgoing))
        acks = [
            await producer.send_batch(batch, self._topic(topic), partition=partition)
            for topic, partition, batch in batches
        ]
        metadata = await asyncio.gather(*acks)  # 3
        offsets = {self._input(name): offset for name, offset in self._next.items()}
        await producer.send_offsets_to_transaction(offsets, self._config.group)  # 4
        await producer.commit_transaction()  # 5
        ends: dict[str, int] = {}
        for (topic, partition, batch), ack in zip(batches, metadata, strict=True):
            if partition == self._partition:  # an acknowledgement tells the first offset
                ends[topic] = max(ends.get(topic, 0), ack.offset + batch.record_count())
        return ends

    def _meta(self, ends: Mapping[str, int]) -> Meta:
        following = dict(self._store.meta.next)
        for name in (LIFECYCLES, TOTALS):
            end = ends.get(name)
            if end is not None:
                following[name] = end
        return Meta(cluster=self._config.cluster, next=following, caught_up_at_ms=self._now_ms())

    # -- the rest ------------------------------------------------------------------------------

    async def close(self) -> None:
        self._forget_uncommitted()
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_quietly(producer)
        self._store.close()

    def _forget_uncommitted(self) -> None:
        self._dirty.clear()
        self._side.clear()
        self._cache.clear()
        self._totals.clear()
        self._next = {}
        self._pending = 0

    def _topic(self, name: str) -> str:
        return self._config.topic_prefix + name

    def _input(self, name: str) -> Partition:
        return Partition(self._topic(name), self._partition)

    def _changelog(self) -> dict[Partition, str]:
        return {self._input(name): name for name in (LIFECYCLES, TOTALS)}


def _batches(producer: Producer, outgoing: Iterable[_Outgoing]) -> Iterable[tuple[str, int, Batch]]:
    """Pack records into batches below the producer's limit, in order within each partition."""
    open_batches: dict[tuple[str, int], Batch] = {}
    for record in outgoing:
        target = record.topic, record.partition
        batch = open_batches.get(target)
        if batch is None:
            batch = open_batches[target] = producer.create_batch()
        if _append(batch, record):
            continue
        yield (*target, batch)
        batch = open_batches[target] = producer.create_batch()
        # A record larger than a whole batch is taken by an empty one: see Batch.
        if not _append(batch, record):
            raise OversizeRecord(f"a record for {record.topic} does not fit into one batch")
    for target, batch in open_batches.items():
        yield (*target, batch)


class OversizeRecord(Exception):
    """A record of ours is larger than a batch may be: the bound of 64 facts makes that a bug."""


def _append(batch: Batch, record: _Outgoing) -> bool:
    return (
        batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
        is not None
    )
