"""The one consume loop: poll, feed, commit, rebalance, shutdown live here and nowhere else.

It drives tasks. A task owns a set of partitions that are read and committed together; it knows
what a commit is (a Kafka transaction in processors/transaction.py, a database transaction in
sinks/postgres.py). The loop knows when: as soon as the oldest fed record has waited for the
interval, or the bound of records or of bytes is reached; never when there is nothing to commit.
The first record after a silence opens the interval, so an idle stream commits nothing. A longer
one while there is little to do was measured, and is not worth it (docs/decisions/0019).

Positions are the tasks' own. The group's offsets are never read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from enum import Enum, auto

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from prometheus_client import CollectorRegistry, Counter, Gauge

from sendtrace.runtime.kafka import Consumer, Partition
from sendtrace.runtime.running import Running, State
from sendtrace.runtime.service import Health
from sendtrace.runtime.task import Fenced, PositionLost, StartOver, Task
from sendtrace.runtime.watch import Watch

# How long getmany may wait when nothing is pending: two wake-ups a second cost nothing.
IDLE_POLL_MS = 500
# While a task restores, or a position is not sought yet: look again soon.
RESTORING_POLL_MS = 20
POLL_LIMIT_RECORDS = 20_000
# A body may have 1 MiB: what is fed and not committed stays in memory, and its output goes out at
# once. Reached with bodies of a kilobyte only by 32,000 records.
COMMIT_LIMIT_BYTES = 32 * 1_048_576
LAG_SECONDS = 1.0
# aiokafka's commit asks a coordinator that is away until it answers (docs/aiokafka.md 26).
MEMBERSHIP_TIMEOUT_SECONDS = 5.0
# How often tasks are told how far they have read: bounds how late a deadline is noticed.
ADVANCE_SECONDS = 0.5


class LoopMetrics:
    """What every consuming process tells about its loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter("sendtrace_loop_records", "Records read", registry=registry)
        self.commits = Counter("sendtrace_loop_commits", "Commits that held", registry=registry)
        self.recoveries = Counter(
            "sendtrace_loop_recoveries", "Times a task was restored", registry=registry
        )
        self.rebalances = Counter(
            "sendtrace_loop_rebalances", "Assignments received", registry=registry
        )
        self.lag = Gauge("sendtrace_loop_lag_records", "Records not yet read", registry=registry)
        self.commit_seconds = Counter(
            "sendtrace_loop_commit_seconds", "Time spent in commits", registry=registry
        )


class Assignment(Enum):
    """What is known of the partitions that are ours."""

    UNKNOWN = auto()  # not joined yet, or a rebalance is under way: nobody knows who owns what
    NEW = auto()  # told by the group, and not acted upon yet
    SETTLED = auto()  # every partition has its task


class Loop:
    """Feeds the tasks of one consumer until told to stop.

    ``unit_of`` says which task a partition belongs to; ``make_task`` makes that task. In a group
    (``subscribe``) tasks come and go with the assignment; else ``assign`` fixes them. ``check`` is
    asked in each round, and raises what must end the loop, uncommitted.
    """

    def __init__(
        self,
        consumer: Consumer,
        unit_of: Callable[[Partition], Hashable],
        make_task: Callable[[Hashable, frozenset[Partition]], Task],
        *,
        interval_seconds: float,
        limit_records: int,
        metrics: LoopMetrics,
        health: Health,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._consumer = consumer
        self._unit_of = unit_of
        self._make_task = make_task
        self._interval_seconds = interval_seconds
        self._limit_records = limit_records
        self._metrics = metrics
        self._health = health
        self._check = check
        self._tasks: dict[Hashable, Running] = {}
        self._assignment = Assignment.UNKNOWN
        self._assigned: frozenset[Partition] = frozenset()
        self._oldest_fed: float | None = None
        self._fed_bytes = 0  # since the last commit
        self._lag_due = 0.0
        self._advance_due = 0.0
        self._watch = Watch(consumer, health)
        self._watch.unassigned()

    def subscribe(self, topics: Iterable[str]) -> None:
        """Join the consumer's group; every member must subscribe to the same topics."""
        self._consumer.subscribe(list(topics), listener=_Listener(self))

    def assign(self, partitions: Collection[Partition]) -> None:
        """Read these partitions, without a group."""
        self._consumer.assign(list(partitions))
        self.assigned(partitions)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until ``stopping``. What was fed is committed before it returns."""
        try:
            while not stopping.is_set():
                self._watch.round()
                self._check()
                await self._adopt_assignment()
                self._adopt_recoveries()
                await self._poll()
                await self._look_around()
                if self._due():
                    await self._commit()
            await self._commit()
        finally:
            await self._drop(list(self._tasks))
            self._watch.ended()

    # -- who owns what -------------------------------------------------------------------------

    def revoked(self) -> None:
        """A rebalance begins. Uncommitted work stays until it is known who owns the partitions.

        aiokafka awaits between making the new assignment effective and telling its listener: in
        that gap getmany hands out records of partitions that no task is ready for, and a seek of
        one that is gone raises. So nothing is fed and nothing is sought until ``assigned``.
        """
        self._assignment = Assignment.UNKNOWN
        self._watch.unassigned()
        for running in self._tasks.values():
            self._watch.rest(running.partitions)

    def assigned(self, partitions: Collection[Partition]) -> None:
        """A new assignment. Nothing of it is handed out before its task is restored."""
        # Before any await, or getmany hands out records of tasks not ready (docs/aiokafka.md 17).
        self._consumer.pause(*partitions)
        self._assigned = frozenset(partitions)
        self._assignment = Assignment.NEW
        self._metrics.rebalances.inc()

    @property
    def _settled(self) -> bool:
        return self._assignment is Assignment.SETTLED

    async def _adopt_assignment(self) -> None:
        """Give up what is gone, start what is new, keep what stays (with store and producer)."""
        while self._assignment is Assignment.NEW:
            self._assignment = Assignment.SETTLED
            units: dict[Hashable, frozenset[Partition]] = {}
            for partition in self._assigned:
                key = self._unit_of(partition)
                units[key] = units.get(key, frozenset()) | {partition}
            # One of other partitions than before is another task: a topic is gone, or has others.
            await self._drop([k for k, t in self._tasks.items() if units.get(k) != t.partitions])
            if not self._settled:
                continue  # another rebalance began while tasks were given up
            for key, partitions in units.items():
                self._take(key, partitions)
            self._watch.assigned()
        if self._settled and not self._tasks:
            self._health.set_ready()  # a spare member is as it should be

    def _take(self, key: Hashable, partitions: frozenset[Partition]) -> None:
        running = self._tasks.get(key)
        if running is None:
            running = self._tasks[key] = Running(self._make_task(key, partitions), partitions)
        if running.ready:
            # Its own position: committed() right after a commit is stale (docs/aiokafka.md 2).
            self._go_on(running, running.next)
        elif running.state is State.UNRESTORED:
            self._restore(running)

    def _go_on(self, running: Running, positions: Mapping[Partition, int]) -> None:
        running.go_on(self._consumer, positions)
        self._watch.fed(running.partitions)

    def _restore(self, running: Running) -> None:
        self._watch.rest(running.partitions)
        self._health.set_unready("restoring")
        self._metrics.recoveries.inc()
        running.restore()

    def _adopt_recoveries(self) -> None:
        """Seek and resume the tasks that finished restoring. Raises what stopped one."""
        if not self._settled:
            return
        for running in self._tasks.values():
            positions = running.restored()
            if positions is not None:
                self._go_on(running, positions)
        if self._tasks and all(running.ready for running in self._tasks.values()):
            self._health.set_ready()

    async def _drop(self, keys: Iterable[Hashable]) -> None:
        """Together: each may wait for a broker that is away. One that fails keeps none open."""
        dropped = [self._tasks.pop(key) for key in keys]
        for running in dropped:
            self._watch.rest(running.partitions)
        results = await asyncio.gather(
            *(running.drop() for running in dropped), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # -- reading -------------------------------------------------------------------------------

    def _ready_tasks(self) -> list[Running]:
        return [running for running in self._tasks.values() if running.ready]

    def _ready_task(self, partition: Partition) -> Running | None:
        running = self._tasks.get(self._unit_of(partition))
        return running if running is not None and running.ready else None

    async def _poll(self) -> None:
        try:
            batches = await self._consumer.getmany(
                timeout_ms=self._poll_timeout_ms(), max_records=POLL_LIMIT_RECORDS
            )
        except NoOffsetForPartitionError:
            await asyncio.sleep(RESTORING_POLL_MS / 1000)  # its task restores: not sought yet
            return
        except OffsetOutOfRangeError as error:
            await self._refuse_loss(error.args[0])
            return
        if not self._settled:
            return  # came during a rebalance: whoever owns the partitions now reads them again
        for partition, records in batches.items():
            running = self._ready_task(partition)
            if running is None or not records:
                continue
            try:
                running.feed(partition, records)
            except StartOver:
                self._begin_anew(running)
                continue
            self._metrics.records.inc(len(records))
            self._fed_bytes += sum([record.serialized_value_size for record in records])
            self._note_pending(running)

    async def _refuse_loss(self, out_of_range: Mapping[Partition, int]) -> None:
        if not self._settled:
            return
        for partition, offset in out_of_range.items():
            # Else the group's offset, which anyone may move: it was in use until we sought.
            if (
                self._ready_task(partition) is not None
                and await self._consumer.position(partition) == offset
            ):
                raise PositionLost(
                    f"offset {offset} of {partition.topic}-{partition.partition} is not there any "
                    "more: records were deleted unread, or the topic was made anew. Restore it, or "
                    "start once with --accept-gap"
                )

    async def _look_around(self) -> None:
        """What is due by the clock: control records, lag, the watchdog, deadlines."""
        now = time.monotonic()
        if now > self._lag_due:
            self._lag_due = now + LAG_SECONDS
            await self._look_behind()
        if now > self._advance_due and self._settled:
            self._advance_due = now + ADVANCE_SECONDS
            await self._advance()

    async def _look_behind(self) -> None:
        """Control records that were passed, how much is unread, and whether all of it moves."""
        if not self._settled:
            await self._watch.look_without_assignment(self._assigned)
            return
        ready = self._ready_tasks()
        for running in ready:
            if await running.pass_control_records(self._consumer):
                self._note_pending(running)
        self._metrics.lag.set(sum([await running.lag(self._consumer) for running in ready]))
        await self._watch.look([partition for running in ready for partition in running.next])

    async def _advance(self) -> None:
        """Tell each task up to which time it has read all of its inputs."""
        for running in self._ready_tasks():
            until_ms = await running.read_until_ms(self._consumer)
            if not self._settled:
                return
            try:
                running.task.advance(until_ms)
            except StartOver:
                self._begin_anew(running)
                continue
            self._note_pending(running)

    # -- commit --------------------------------------------------------------------------------

    def _note_pending(self, running: Running) -> None:
        if self._oldest_fed is None and running.task.pending():
            self._oldest_fed = time.monotonic()

    def _poll_timeout_ms(self) -> int:
        if any(running.state is State.RESTORING for running in self._tasks.values()):
            return RESTORING_POLL_MS
        if self._oldest_fed is None:
            return IDLE_POLL_MS
        left_seconds = self._oldest_fed + self._interval_seconds - time.monotonic()
        return max(0, int(left_seconds * 1000) + 1)

    def _due(self) -> bool:
        if self._oldest_fed is None:
            return False
        if time.monotonic() - self._oldest_fed >= self._interval_seconds:
            return True
        if self._fed_bytes >= COMMIT_LIMIT_BYTES:
            return True
        return sum(running.task.pending() for running in self._tasks.values()) >= (
            self._limit_records
        )

    async def _commit(self) -> None:
        began = time.monotonic()
        self._oldest_fed = None
        self._fed_bytes = 0
        # Not ready is also one whose commit failed: without recovery its work would count twice.
        dirty = {
            key: running
            for key, running in self._tasks.items()
            if running.ready and running.task.pending()
        }
        results = await asyncio.gather(
            *(running.commit() for running in dirty.values()), return_exceptions=True
        )
        for (key, running), result in zip(dirty.items(), results, strict=True):
            if isinstance(result, StartOver):
                await self._start_over(key, running, result)
            elif isinstance(result, BaseException):
                raise result
            else:
                self._metrics.commits.inc()
        self._metrics.commit_seconds.inc(time.monotonic() - began)

    async def _start_over(self, key: Hashable, running: Running, reason: StartOver) -> None:
        """Restore, unless it is the assignment that decides, or the group counts us out.

        Raises the reason when no commit holds any more.
        """
        positions = dict(running.next)
        running.failed()
        if isinstance(reason, Fenced) and self._settled and not await self._is_member(positions):
            await self._drop([key])
        elif self._settled:  # still: asking the broker took a while
            if running.is_hopeless:
                raise reason
            self._begin_anew(running)

    def _begin_anew(self, running: Running) -> None:
        """Restore a task that is ours. What it was fed since its last commit is read again."""
        running.unrestored()
        self._consumer.pause(*running.partitions)
        self._restore(running)

    async def _is_member(self, positions: Mapping[Partition, int]) -> bool:
        """Whether the group still counts us in: the broker refuses a stranger's commit."""
        try:
            async with asyncio.timeout(MEMBERSHIP_TIMEOUT_SECONDS):
                await self._consumer.commit(positions)
        except (CommitFailedError, IllegalStateError):
            return False
        except (KafkaError, TimeoutError):
            return True  # not known: recovering is safe in any case, giving up would only wait
        return True


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Only notes the assignment: restoring here would stop the heartbeat (docs/aiokafka.md 18)."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def on_partitions_revoked(self, revoked: Collection[Partition]) -> None:
        self._loop.revoked()

    async def on_partitions_assigned(self, assigned: Collection[Partition]) -> None:
        self._loop.assigned(assigned)
