"""Kafka clients with every default chosen on purpose, and the ports that fakes implement.

The ports are the part of aiokafka that sendtrace uses, with its names: the real clients satisfy
them as they are, and ``tests/fakes/log.py`` passes the same contract tests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from schemas import topics
from sendtrace.runtime.leave import LeaveGroup, refuse_errors
from sendtrace.runtime.metadata import KafkaTopicReader, TopicState
from sendtrace.runtime.settings import Settings

# The broker's own limit of one batch is 1 MiB by default; a batch of ours stays below it.
BATCH_LIMIT_BYTES = 900_000
# A stop that waits for a broker that is away would hang for ever (docs/aiokafka.md 41).
STOP_TIMEOUT_SECONDS = 10.0
# A task that lost a cancellation is cancelled once more.
CANCEL_SECONDS = 0.1
# The process waits for it when it ends; the session timeout does the same later.
LEAVE_TIMEOUT_MS = 5_000

log = logging.getLogger(__name__)


def no_fencing_unheard(record: logging.LogRecord) -> bool:
    """A filter for asyncio's logger: a fencing is told to the engine, which acts on it.

    aiokafka keeps it in the waiters of the transaction too, and nobody waits for those any more
    ("Future exception was never retrieved", and a traceback; docs/aiokafka.md 8).
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, ProducerFenced | InvalidProducerEpoch)


Partition = TopicPartition
Record = ConsumerRecord


class Batch(Protocol):
    """One batch under construction; ``append`` answers None when it is full."""

    def append(
        self, *, timestamp: int | None, key: bytes | None, value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = ...,
    ) -> object | None: ...  # fmt: skip

    def record_count(self) -> int: ...

    def size(self) -> int: ...


class Producer(Protocol):
    """The part of AIOKafkaProducer in use."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def create_batch(self) -> Batch: ...
    async def send_batch(
        self, batch: Batch, topic: str, *, partition: int
    ) -> asyncio.Future[Any]: ...
    async def begin_transaction(self) -> None: ...
    async def commit_transaction(self) -> None: ...
    async def abort_transaction(self) -> None: ...
    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> None: ...


class Consumer(Protocol):
    """The part of AIOKafkaConsumer in use."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def subscribe(
        self, topics: Sequence[str], *, listener: ConsumerRebalanceListener | None = ...
    ) -> None: ...
    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...
    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = ..., max_records: int | None = ...
    ) -> dict[TopicPartition, list[ConsumerRecord]]: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    def pause(self, *partitions: TopicPartition) -> None: ...
    def resume(self, *partitions: TopicPartition) -> None: ...
    async def position(self, partition: TopicPartition) -> int: ...
    async def end_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]: ...
    async def beginning_offsets(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int]: ...
    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...
    def highwater(self, partition: TopicPartition) -> int | None: ...
    def last_stable_offset(self, partition: TopicPartition) -> int | None: ...
    def last_poll_timestamp(self, partition: TopicPartition) -> int | None: ...


class TopicReader(Protocol):
    """Asks which topics there are, without reading them."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def describe(self, names: Collection[str]) -> dict[str, TopicState]: ...


class Clients(Protocol):
    """Makes clients: real ones here, in-memory ones in the tests."""

    def producer(
        self, *, transactional_id: str | None = None, max_batch_bytes: int = BATCH_LIMIT_BYTES
    ) -> Producer: ...
    def group_consumer(self, group: str, instance_id: str | None) -> Consumer: ...
    async def leave_group(self, group: str, instance_id: str) -> None: ...
    def reader(self, *, resets: bool = True, committed: bool = True) -> Consumer: ...
    def topic_reader(self) -> TopicReader: ...


class KafkaClients:
    """Clients of the cluster that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def producer(
        self, *, transactional_id: str | None = None, max_batch_bytes: int = BATCH_LIMIT_BYTES
    ) -> Producer:
        """Idempotent, acks=all. With an id also transactional; ``start`` does InitProducerId."""
        return AIOKafkaProducer(  # type: ignore[no-any-return]  # aiokafka is untyped
            bootstrap_servers=self._settings.kafka_bootstrap,
            acks="all",
            enable_idempotence=True,
            transactional_id=transactional_id,
            transaction_timeout_ms=self._settings.transaction_timeout_ms,
            max_batch_size=max_batch_bytes,
            max_request_size=max_batch_bytes + 100_000,
            # Group commit forms the batches: nothing is won by waiting here.
            linger_ms=0,
            # Shorter than the default 40 s: a dead connection is noticed and retried.
            request_timeout_ms=10_000,
            retry_backoff_ms=50,
        )

    def group_consumer(self, group: str, instance_id: str | None) -> Consumer:
        """A member of a group. Positions come from us (seek), never from the group's offsets."""
        return self._consumer(
            # Out of range is PositionLost: a reset would skip in silence (docs/aiokafka.md 30).
            auto_offset_reset="none",
            group_id=group,
            group_instance_id=instance_id,
            # Gives partition p of all topics to one member; the default would split them, and
            # more than one assignor sends several JoinGroups (docs/aiokafka.md 20).
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=self._settings.session_timeout_ms,
            rebalance_timeout_ms=30_000,
            heartbeat_interval_ms=self._settings.session_timeout_ms // 5,
        )

    async def leave_group(self, group: str, instance_id: str) -> None:
        """Take a static member out of its group, once its consumer is stopped.

        aiokafka's stop never does, as a static member usually comes back. One that still runs would
        join again with its next heartbeat. Raises KafkaError or TimeoutError when it did not work.
        """
        client = AIOKafkaClient(
            bootstrap_servers=self._settings.kafka_bootstrap, request_timeout_ms=LEAVE_TIMEOUT_MS
        )
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_MS / 1000):
                await client.bootstrap()
                coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
                response = await client.send(coordinator, LeaveGroup(group, instance_id))
        finally:
            await client.close()
        refuse_errors(response)

    def reader(self, *, resets: bool = True, committed: bool = True) -> Consumer:
        """A consumer without a group: partitions are assigned by hand.

        ``resets``: where no position exists, or one outside the log, it begins at the log's
        beginning. Who goes on for ever seeks, and must be told that a position is lost.
        ``committed``: else its ends are also of what a transaction has not committed yet.
        """
        # Never `latest`.
        reset = "earliest" if resets else "none"
        level = "read_committed" if committed else "read_uncommitted"
        return self._consumer(group_id=None, auto_offset_reset=reset, isolation_level=level)

    def topic_reader(self) -> TopicReader:
        return KafkaTopicReader(self._settings.kafka_bootstrap)

    def _consumer(self, *, isolation_level: str = "read_committed", **options: object) -> Consumer:
        return AIOKafkaConsumer(  # type: ignore[no-any-return]  # aiokafka is untyped
            bootstrap_servers=self._settings.kafka_bootstrap,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            # Enough to keep the core busy. Four times as much costs a joiner of 12 partitions 80 MB
            # more after a backlog, and no less CPU. A batch larger than this comes by itself.
            fetch_max_bytes=4 * 1_048_576,
            max_partition_fetch_bytes=1_048_576,
            # Data ends the wait at once; idle, two fetches a second cost nothing.
            fetch_max_wait_ms=500,
            request_timeout_ms=20_000,
            retry_backoff_ms=100,
            **options,
        )


async def stop_quietly(client: Producer | Consumer | TopicReader) -> None:
    """Stop a client, and wait for that within a bound: with the broker away it may take for ever.

    Past the bound it goes on by itself and ends when the broker is back: cut short, it would leave
    the client's tasks and connections behind for good.
    """
    stop = asyncio.create_task(_stop(client))
    _stops.add(stop)
    stop.add_done_callback(_stops.discard)
    _, waits = await asyncio.wait({stop}, timeout=STOP_TIMEOUT_SECONDS)
    if waits:
        log.info("a client does not stop: the broker does not answer")
    else:
        stop.result()


# The event loop itself holds tasks but weakly.
_stops: set[asyncio.Task[None]] = set()


async def _stop(client: Producer | Consumer | TopicReader) -> None:
    """A client that is spoilt raises its own failure once more: it is given up in any case."""
    try:
        await client.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody cancelled us: aiokafka cancelled a fetch in its pause after an error, and awaited
        # it. What stop() would have done next ends the other fetches, too.
        await client._client.close()  # type: ignore[union-attr]  # noqa: SLF001
    except (KafkaError, OSError) as error:
        log.info("a client did not stop cleanly: %s", type(error).__name__)


async def give_up_joining(member: Consumer, start: asyncio.Task[None]) -> None:
    """End the start of a group's member, whatever it waits for. It still has to be stopped.

    Its stop alone would wait for the group's answer: aiokafka's task that joins goes on by itself.
    """
    await _cancel(start)
    coordinator = getattr(member, "_coordinator", None)  # none before it is connected
    if coordinator is not None:
        await _cancel(coordinator._coordination_task)  # noqa: SLF001


async def _cancel(task: asyncio.Task[None]) -> None:
    """Until it has ended: aiokafka may lose a cancellation. How it ends does not matter."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_SECONDS)
    if not task.cancelled():
        task.exception()


async def leave_quietly(clients: Clients, group: str, instance_id: str) -> None:
    """Leave for good. When that fails, the others wait for the session timeout instead."""
    try:
        await clients.leave_group(group, instance_id)
    except (TimeoutError, KafkaError, OSError) as error:
        log.warning("the group was not told that this member left: %s", type(error).__name__)


def partitions_of(settings: Settings, name: str) -> list[TopicPartition]:
    """Every partition of a topic of ours."""
    number = settings.partitions * topics.BY_NAME[name].stages
    return [TopicPartition(settings.topic(name), p) for p in range(number)]
