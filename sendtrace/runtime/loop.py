"""The one consume loop: poll, feed, commit, rebalance, shutdown live here and nowhere else.

It drives tasks. A task owns a set of partitions that are read and committed together; it knows
what a commit is (a Kafka transaction in processors/transaction.py, a database transaction in
sinks/postgres.py). The loop knows when: as soon as the oldest fed record has waited for the
interval, or the bound of records is reached; never when there is nothing to commit.

Positions are the tasks' own. The group's offsets are never read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from prometheus_client import CollectorRegistry, Counter, Gauge

from sendtrace.runtime.kafka import Consumer, Partition, Record
from sendtrace.runtime.service import Health
from sendtrace.runtime.task import Fenced, PositionLost, StartOver, Task

# How long getmany may wait when nothing is pending: two wake-ups a second cost nothing.
IDLE_POLL_MS = 500
POLL_LIMIT_RECORDS = 20_000
LAG_SECONDS = 1.0
# How often tasks are told how far they have read: bounds how late a deadline is noticed.
ADVANCE_SECONDS = 0.5
# Failing to recover for longer than this is not a hiccup: crash, and be restarted from outside.
RECOVERY_LIMIT_SECONDS = 60.0
RECOVERY_BACKOFF_SECONDS = 0.2


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


class _Running:
    """A task with its partitions, and whether it may be fed."""

    def __init__(self, task: Task, partitions: frozenset[Partition]) -> None:
        self.task = task
        self.partitions = partitions
        self.next: dict[Partition, int] = {}
        self.read_ms: dict[Partition, int] = {}  # append time of the last record fed
        self.recovery: asyncio.Task[Mapping[Partition, int]] | None = None
        self.failing_since: float | None = None

    @property
    def ready(self) -> bool:
        return self.recovery is None and bool(self.next)


class Loop:
    """Feeds the tasks of one consumer until told to stop.

    ``unit_of`` says which task a partition belongs to; ``make_task`` makes that task. In a group
    (``subscribe``) tasks come and go with the assignment; else ``assign`` fixes them.
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
    ) -> None:
        self._consumer = consumer
        self._unit_of = unit_of
        self._make_task = make_task
        self._interval_seconds = interval_seconds
        self._limit_records = limit_records
        self._metrics = metrics
        self._health = health
        self._tasks: dict[Hashable, _Running] = {}
        # Between on_partitions_revoked and _adopt_assignment nobody knows who owns what.
        self._rebalancing = False
        self._joined = False
        self._assigned: frozenset[Partition] | None = None
        self._oldest_fed: float | None = None
        self._lag_due = 0.0
        self._advance_due = 0.0

    def subscribe(self, topics: Iterable[str]) -> None:
        """Join the consumer's group; every member must subscribe to the same topics."""
        self._consumer.subscribe(list(topics), listener=_Listener(self))

    def assign(self, partitions: Collection[Partition]) -> None:
        """Read these partitions, without a group."""
        self._consumer.assign(list(partitions))
        self.assigned(partitions)

    def revoked(self) -> None:
        """A rebalance begins. Uncommitted work stays until it is known who owns the partitions.

        aiokafka awaits between making the new assignment effective and telling its listener: in
        that gap getmany hands out records of partitions that no task is ready for, and a seek of
        one that is gone raises. So nothing is fed and nothing is sought until ``assigned``.
        """
        self._rebalancing = True

    def assigned(self, partitions: Collection[Partition]) -> None:
        """A new assignment. Nothing of it is handed out before its task is restored."""
        # Before any await, or getmany hands out records that no task is ready for (AIOKAFKA 4).
        self._consumer.pause(*partitions)
        self._assigned = frozenset(partitions)
        self._rebalancing = False
        self._joined = True
        self._metrics.rebalances.inc()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until ``stopping``. What was fed is committed before it returns."""
        try:
            while not stopping.is_set():
                await self._adopt_assignment()
                self._adopt_recoveries()
                await self._poll()
                if self._due():
                    await self._commit()
            await self._commit()
        finally:
            for running in list(self._tasks.values()):
                await self._drop(running)
            self._tasks.clear()

    @property
    def _unsettled(self) -> bool:
        return self._rebalancing or self._assigned is not None

    async def _poll(self) -> None:
        try:
            batches = await self._consumer.getmany(
                timeout_ms=self._poll_timeout_ms(), max_records=POLL_LIMIT_RECORDS
            )
        except NoOffsetForPartitionError:
            await asyncio.sleep(RECOVERY_BACKOFF_SECONDS / 10)  # its task restores: not sought yet
            return
        except OffsetOutOfRangeError as error:
            await self._refuse_loss(error.args[0])
            return
        if self._unsettled:
            return  # came during a rebalance: whoever owns the partitions now reads them again
        for partition, records in batches.items():
            running = self._tasks.get(self._unit_of(partition))
            if running is None or not running.ready or not records:
                continue
            self._feed(running, partition, records)
        now = time.monotonic()
        if now > self._lag_due:
            self._lag_due = now + LAG_SECONDS
            await self._pass_control_records()
            self._metrics.lag.set(await self._lag())
        if now > self._advance_due:
            self._advance_due = now + ADVANCE_SECONDS
            await self._advance()

    async def _refuse_loss(self, out_of_range: Mapping[Partition, int]) -> None:
        if self._unsettled:
            return
        for partition, offset in out_of_range.items():
            running = self._tasks.get(self._unit_of(partition))
            # Else the group's offset, which anyone may move: it was in use until we sought.
            if (
                running is not None
                and running.ready
                and await self._consumer.position(partition) == offset
            ):
                raise PositionLost(
                    f"offset {offset} of {partition.topic}-{partition.partition} is not there any "
                    "more: records were deleted unread, or the topic was made anew"
                )

    async def _advance(self) -> None:
        """Tell each task up to which time it has read all of its inputs."""
        for running in list(self._tasks.values()):
            if not running.ready:
                continue
            until_ms = min([await self._read_until_ms(running, tp) for tp in running.next])
            if self._unsettled or not running.ready:
                return
            running.task.advance(until_ms)
            if running.task.pending() and self._oldest_fed is None:
                self._oldest_fed = time.monotonic()

    async def _read_until_ms(self, running: _Running, partition: Partition) -> int:
        """At the end of the partition: when that was asked last. Else the last record's time.

        So a backlog after downtime does not look like silence, and an idle partition does not
        hold the others up.
        """
        end = self._consumer.last_stable_offset(partition)
        asked_ms = self._consumer.last_poll_timestamp(partition)
        if end is None or asked_ms is None or await self._consumer.position(partition) < end:
            return running.read_ms.get(partition, 0)
        return asked_ms

    def _feed(self, running: _Running, partition: Partition, records: list[Record]) -> None:
        if records[0].offset < running.next[partition]:
            raise PositionLost(
                f"{partition.topic}-{partition.partition} went back from offset "
                f"{running.next[partition]} to {records[0].offset}: the topic was made anew, or "
                "cut, while it was read"
            )
        running.task.feed(partition, records)
        running.next[partition] = records[-1].offset + 1
        running.read_ms[partition] = records[-1].timestamp
        self._metrics.records.inc(len(records))
        if self._oldest_fed is None and running.task.pending():
            self._oldest_fed = time.monotonic()

    def _poll_timeout_ms(self) -> int:
        if any(running.recovery is not None for running in self._tasks.values()):
            return 20
        if self._oldest_fed is None:
            return IDLE_POLL_MS
        left_seconds = self._oldest_fed + self._interval_seconds - time.monotonic()
        return max(0, int(left_seconds * 1000) + 1)

    def _due(self) -> bool:
        if self._oldest_fed is None:
            return False
        if time.monotonic() - self._oldest_fed >= self._interval_seconds:
            return True
        return sum(running.task.pending() for running in self._tasks.values()) >= (
            self._limit_records
        )

    async def _commit(self) -> None:
        began = time.monotonic()
        self._oldest_fed = None
        # Not ready is also one whose commit failed: without recovery its work would count twice.
        dirty = [r for r in self._tasks.values() if r.ready and r.task.pending()]
        results = await asyncio.gather(
            *(running.task.commit() for running in dirty), return_exceptions=True
        )
        for running, result in zip(dirty, results, strict=True):
            if isinstance(result, StartOver):
                await self._start_over(running, result)
            elif isinstance(result, BaseException):
                raise result
            else:
                running.failing_since = None
                self._metrics.commits.inc()
        self._metrics.commit_seconds.inc(time.monotonic() - began)

    async def _start_over(self, running: _Running, reason: StartOver) -> None:
        running.failing_since = running.failing_since or time.monotonic()
        if self._unsettled:
            # A rebalance is under way: _adopt_assignment decides whether we keep the task.
            running.next.clear()
            return
        if isinstance(reason, Fenced) and not await self._is_member(running):
            await self._drop(running)
            self._tasks = {key: r for key, r in self._tasks.items() if r is not running}
            return
        if self._unsettled:  # a rebalance began while the broker was asked
            running.next.clear()
            return
        self._consumer.pause(*running.partitions)
        self._begin_recovery(running)

    async def _is_member(self, running: _Running) -> bool:
        """Whether the group still counts us in: the broker refuses a stranger's commit."""
        try:
            await self._consumer.commit(dict(running.next))
        except (CommitFailedError, IllegalStateError):
            return False
        except KafkaError:
            return True  # not known: recovering is safe in any case, giving up would only wait
        return True

    def _begin_recovery(self, running: _Running) -> None:
        running.next.clear()
        self._health.set_unready("restoring")
        self._metrics.recoveries.inc()
        since = running.failing_since or time.monotonic()
        running.recovery = asyncio.create_task(
            _recover(running.task, since + RECOVERY_LIMIT_SECONDS)
        )

    async def _adopt_assignment(self) -> None:
        """Give up what is gone, start what is new, keep what stays (with store and producer)."""
        while self._assigned is not None:
            assigned, self._assigned = self._assigned, None
            units: dict[Hashable, set[Partition]] = {}
            for partition in assigned:
                units.setdefault(self._unit_of(partition), set()).add(partition)
            for key in [key for key in self._tasks if key not in units]:
                await self._drop(self._tasks.pop(key))
            if self._unsettled:
                continue  # another rebalance began while tasks were given up
            for key, partitions in units.items():
                self._take(key, frozenset(partitions))
        if self._joined and not self._unsettled and not self._tasks:
            self._health.set_ready()  # a spare member is as it should be

    def _take(self, key: Hashable, partitions: frozenset[Partition]) -> None:
        running = self._tasks.get(key)
        if running is not None and running.ready and running.partitions == partitions:
            # Its own position: committed() right after a commit is stale (AIOKAFKA 24).
            self._go_on(running, running.next)
            return
        if running is None:
            running = self._tasks[key] = _Running(self._make_task(key, partitions), partitions)
        if running.recovery is None:
            self._begin_recovery(running)

    def _adopt_recoveries(self) -> None:
        """Seek and resume the tasks that finished restoring. Raises what stopped one."""
        if self._unsettled:
            return
        for running in self._tasks.values():
            if running.recovery is None or not running.recovery.done():
                continue
            positions = running.recovery.result()
            running.recovery = None
            self._go_on(running, positions)
        if self._tasks and all(running.ready for running in self._tasks.values()):
            self._health.set_ready()

    def _go_on(self, running: _Running, positions: Mapping[Partition, int]) -> None:
        for partition, offset in positions.items():
            self._consumer.seek(partition, offset)
        running.next = dict(positions)
        self._consumer.resume(*running.partitions)

    async def _drop(self, running: _Running) -> None:
        if running.recovery is not None:
            running.recovery.cancel()
            # Whatever it ends with does not matter any more: its work is given up.
            await asyncio.gather(running.recovery, return_exceptions=True)
            running.recovery = None
        await running.task.close()

    async def _pass_control_records(self) -> None:
        for running in self._tasks.values():
            for partition, offset in list(running.next.items()):
                position = await self._consumer.position(partition)
                if position > offset:
                    running.task.skip(partition, position)
                    running.next[partition] = position
                    self._oldest_fed = self._oldest_fed or time.monotonic()

    async def _lag(self) -> int:
        """Records not yet read. By position: it counts control records, as the end does."""
        lag = 0
        for running in self._tasks.values():
            for partition in running.next:
                end = self._consumer.highwater(partition)
                if end is not None:
                    lag += max(0, end - await self._consumer.position(partition))
        return lag


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Only notes the assignment: restoring here would stop the heartbeat (AIOKAFKA 5)."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    async def on_partitions_revoked(self, revoked: Collection[Partition]) -> None:
        self._loop.revoked()

    async def on_partitions_assigned(self, assigned: Collection[Partition]) -> None:
        self._loop.assigned(assigned)


async def _recover(task: Task, deadline: float) -> Mapping[Partition, int]:
    """Recover with pauses between tries, until the deadline; then the last error crashes us."""
    while True:
        try:
            return await task.recover()
        except (StartOver, KafkaError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RECOVERY_BACKOFF_SECONDS)
