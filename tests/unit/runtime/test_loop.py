"""The loop over a consumer as strict as aiokafka, with a coordinator in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
)
from prometheus_client import CollectorRegistry

from sendtrace.runtime import loop as runtime_loop
from sendtrace.runtime import running as running_task
from sendtrace.runtime import watch
from sendtrace.runtime.loop import COMMIT_LIMIT_BYTES, Loop, LoopMetrics
from sendtrace.runtime.service import Health
from sendtrace.runtime.task import Fenced, PositionLost, StartOver

P0, P1, P2 = PARTITIONS = [TopicPartition("t", n) for n in range(3)]


@dataclass
class Record:
    offset: int
    timestamp: int = 0
    serialized_value_size: int = 1


class StrictConsumer:
    """Pause, seek and resume of what is not assigned raise."""

    def __init__(self) -> None:
        self.assigned: set[TopicPartition] = set()
        self.records: dict[TopicPartition, list[Record]] = {}
        self.positions: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.polled_ms = 0
        self.hangs = self.away = False  # hands out nothing any more; the broker does not answer
        self.is_member = True
        self._listener: Any = None

    def subscribe(self, topics: Any, *, listener: Any = None) -> None:
        self._listener = listener

    def _refuse_unassigned(self, *partitions: TopicPartition) -> None:
        for partition in partitions:
            if partition not in self.assigned:
                raise IllegalStateError(f"No current assignment for partition {partition}")

    pause = resume = _refuse_unassigned

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._refuse_unassigned(partition)
        self.positions[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.positions.get(partition, 0)

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.ends.get(partition)

    last_stable_offset = highwater

    def last_poll_timestamp(self, partition: TopicPartition) -> int:
        return self.polled_ms

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[Any, int]:
        await asyncio.sleep(0)
        if self.away:
            raise KafkaConnectionError
        return {}

    async def commit(self, offsets: Any) -> None:
        await asyncio.sleep(0.02)
        if not self.is_member:
            raise CommitFailedError

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Record]]:
        await asyncio.sleep(0.005)
        if self.hangs:
            return {}
        self.polled_ms += 5
        found, self.records = self.records, {}
        for partition, records in found.items():
            self.positions[partition] = records[-1].offset + 1
        return found

    async def rebalance(
        self, *partitions: TopicPartition, told: asyncio.Event | None = None
    ) -> None:
        """As aiokafka does: the assignment is in effect before its listener is told of it."""
        await self._listener.on_partitions_revoked(self.assigned)
        self.assigned = set(partitions)
        await (told.wait() if told else asyncio.sleep(0))
        await self._listener.on_partitions_assigned(set(partitions))


def _open() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class ScriptedTask:
    """Fails as it is told, once each."""

    partitions: frozenset[TopicPartition]
    close_seconds: float = 0.0
    commit_errors: list[Exception] = field(default_factory=list)
    recover_errors: list[Exception] = field(default_factory=list)
    feed_errors: list[Exception] = field(default_factory=list)
    advance_errors: list[Exception] = field(default_factory=list)
    fed: int = 0
    commits: int = 0
    recoveries: int = 0
    next: int = 0
    skipped: list[int] = field(default_factory=list)
    advanced: list[int] = field(default_factory=list)
    may_commit: asyncio.Event = field(default_factory=_open)
    may_recover: asyncio.Event = field(default_factory=_open)

    async def recover(self) -> Mapping[TopicPartition, int]:
        self.fed = 0
        self.recoveries += 1
        await self.may_recover.wait()
        if self.recover_errors:
            raise self.recover_errors.pop()
        return dict.fromkeys(self.partitions, self.next)

    def feed(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        if self.feed_errors:
            raise self.feed_errors.pop()
        self.fed += len(records)

    def skip(self, partition: TopicPartition, position: int) -> None:
        self.skipped.append(position)

    def advance(self, read_until_ms: int) -> None:
        if self.advance_errors:
            raise self.advance_errors.pop()
        self.advanced.append(read_until_ms)

    def pending(self) -> int:
        return self.fed

    async def commit(self) -> None:
        self.commits += 1
        await self.may_commit.wait()
        await asyncio.sleep(0.02)
        if self.commit_errors:
            raise self.commit_errors.pop()
        self.fed = 0

    async def close(self) -> None:
        await asyncio.sleep(self.close_seconds)


class Rig:
    """A loop over a strict consumer, with scripted tasks."""

    def __init__(self, close_seconds: float = 0.0, stuck_seconds: float = 60.0) -> None:
        self.consumer, self.health = StrictConsumer(), Health(stuck_seconds)
        self.tasks: dict[int, ScriptedTask] = {}
        self.stopping = asyncio.Event()
        self.has_ended = False

        def make(key: Any, partitions: frozenset[TopicPartition]) -> ScriptedTask:
            self.tasks[key] = ScriptedTask(partitions, close_seconds)
            return self.tasks[key]

        self.loop = Loop(
            self.consumer,  # type: ignore[arg-type]
            lambda partition: partition.partition,
            make,
            interval_seconds=0.01,
            limit_records=100,
            metrics=LoopMetrics(CollectorRegistry()),
            health=self.health,
            check=self._check,
        )
        self.lost: Exception | None = None
        self.loop.subscribe(["t"])

    def _check(self) -> None:
        if self.lost is not None:
            raise self.lost

    async def assign(self, *partitions: TopicPartition) -> None:
        await self.consumer.rebalance(*partitions)
        await self.until(lambda: self.health.ready and len(self.tasks) >= len(partitions))

    async def stays_live(self) -> None:
        for _ in range(20):
            assert not self.health.why_not_live()
            await asyncio.sleep(1.5 * STUCK_SECONDS / 20)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def running(close_seconds: float = 0.0, stuck_seconds: float = 60.0) -> AsyncIterator[Rig]:
    """At the end the loop is stopped; what ended it is raised."""
    rig = Rig(close_seconds, stuck_seconds)

    async def run() -> None:
        try:
            await rig.loop.run(rig.stopping)
        finally:
            rig.has_ended = True

    task = asyncio.create_task(run())
    try:
        yield rig
    finally:
        rig.stopping.set()
        await task


async def test_a_rebalance_while_tasks_are_given_up() -> None:
    async with running(close_seconds=0.1) as rig:
        await rig.assign(*PARTITIONS)
        await rig.consumer.rebalance(P0, P1)  # 2 goes, and its close takes a moment
        await asyncio.sleep(0.05)
        await rig.consumer.rebalance(P0)
        await asyncio.sleep(0.3)


async def test_a_rebalance_while_membership_is_confirmed() -> None:
    async with running() as rig:
        await rig.assign(*PARTITIONS)
        rig.tasks[1].commit_errors = [Fenced("by another")]
        rig.consumer.records = {P1: [Record(0)]}
        await rig.until(lambda: rig.tasks[1].commits == 1)
        await asyncio.sleep(0.025)  # within the group's commit
        await rig.consumer.rebalance(P0)
        await asyncio.sleep(0.2)


@asynccontextmanager
async def untold(rig: Rig, *partitions: TopicPartition) -> AsyncIterator[None]:
    """Within, the assignment is in effect and its listener was not told (docs/aiokafka.md 17)."""
    told = asyncio.Event()
    rebalance = asyncio.create_task(rig.consumer.rebalance(*partitions, told=told))
    await rig.until(lambda: rig.consumer.assigned == set(partitions))
    yield
    told.set()
    await rebalance


async def test_what_comes_before_its_assignment_is_told_is_not_fed() -> None:
    """It begins where the group stands, and not where we do."""
    async with running() as rig:
        await rig.assign(P0)
        rig.consumer.records = {P0: [Record(0)]}
        await rig.until(lambda: rig.tasks[0].commits == 1)
        async with untold(rig, P0, P1):
            rig.consumer.records = {P0: [Record(0)], P1: [Record(0)]}
            await rig.until(lambda: not rig.consumer.records)
            await asyncio.sleep(0.02)
        await rig.until(lambda: rig.health.ready and len(rig.tasks) == 2)
    assert [(task.fed, task.commits) for task in rig.tasks.values()] == [(0, 1), (0, 0)]


async def test_who_has_recovered_before_the_assignment_is_told_seeks_nothing() -> None:
    """Its partitions may be gone, and a seek of those raises."""
    async with running() as rig:
        await rig.assign(P0)
        rig.tasks[0].commit_errors = [StartOver("result unknown")]
        rig.tasks[0].may_recover.clear()
        rig.consumer.records = {P0: [Record(0)]}
        await rig.until(lambda: rig.tasks[0].recoveries == 2)
        async with untold(rig, P1):
            rig.tasks[0].may_recover.set()
            await asyncio.sleep(0.05)
        await rig.until(lambda: rig.health.ready and 1 in rig.tasks)


async def test_a_failed_commit_is_not_tried_again_when_stopping() -> None:
    """Its totals were moved: without recovery they would move twice."""
    async with running() as rig:
        await rig.assign(P0)
        rig.tasks[0].commit_errors = [StartOver("result unknown")]
        rig.consumer.records = {P0: [Record(0)]}
        await rig.until(lambda: rig.tasks[0].commits == 1)
        await rig.consumer.rebalance(P0)
        rig.stopping.set()
    assert rig.tasks[0].commits == 1


async def test_what_a_failed_commit_held_counts_as_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be hours of a backlog: deadlines within them must wait until it is fed again."""
    monkeypatch.setattr(runtime_loop, "ADVANCE_SECONDS", 0.01)
    async with running() as rig:
        await rig.assign(P0)
        task = rig.tasks[0]
        task.commit_errors = [StartOver("result unknown")]
        rig.consumer.ends = {P0: 9}  # there is more to read
        rig.consumer.records = {P0: [Record(0, timestamp=5_000)]}
        await rig.until(lambda: task.recoveries == 2 and rig.health.ready)
        task.advanced.clear()
        await rig.until(lambda: len(task.advanced) == 3)
        assert set(task.advanced) == {0}
        rig.consumer.records = {P0: [Record(0, timestamp=5_000)]}
        await rig.until(lambda: 5_000 in task.advanced)


async def test_a_task_that_cannot_be_fed_is_restored_and_the_others_go_on() -> None:
    """What it was fed before is not committed: its memory is of no use."""
    async with running() as rig:
        rig.loop._interval_seconds = 0.1
        await rig.assign(P0, P1)
        rig.tasks[0].fed = 1
        rig.tasks[0].feed_errors = [StartOver("its state is damaged")]
        rig.consumer.records = {P0: [Record(0)], P1: [Record(0)]}
        await rig.until(lambda: rig.tasks[1].commits == 1)
        assert (rig.tasks[0].recoveries, rig.tasks[0].commits) == (2, 0)
        await rig.until(lambda: rig.health.ready)
        assert rig.consumer.positions[P0] == 0
        rig.consumer.records = {P0: [Record(0)]}
        await rig.until(lambda: rig.tasks[0].commits == 1)
    assert rig.tasks[1].recoveries == 1


async def test_a_task_that_cannot_advance_is_restored() -> None:
    async with running() as rig:
        await rig.assign(P0, P1)
        rig.tasks[0].advance_errors = [StartOver("its state is damaged")]
        await rig.until(lambda: rig.tasks[0].recoveries == 2 and rig.health.ready)
    assert rig.tasks[1].recoveries == 1


async def test_what_was_fed_is_committed_when_stopping() -> None:
    async with running() as rig:
        rig.loop._interval_seconds = 60
        await rig.assign(P0)
        rig.consumer.records = {P0: [Record(0)]}
        await rig.until(lambda: rig.tasks[0].fed == 1)
    assert rig.tasks[0].commits == 1


@pytest.mark.parametrize(
    ("below", "rest"),
    [
        ([Record(n) for n in range(99)], [Record(99)]),
        ([Record(0, serialized_value_size=COMMIT_LIMIT_BYTES - 1)], [Record(1)]),
    ],
    ids=["records", "bytes"],
)
async def test_a_bound_commits_before_the_interval(below: list[Record], rest: list[Record]) -> None:
    async with running() as rig:
        rig.loop._interval_seconds = 60
        await rig.assign(P0)
        rig.consumer.records = {P0: below}
        await rig.until(lambda: rig.tasks[0].fed == len(below))
        await asyncio.sleep(0.05)
        assert rig.tasks[0].commits == 0
        rig.consumer.records = {P0: rest}
        await rig.until(lambda: rig.tasks[0].commits == 1)


async def test_nothing_is_committed_when_nothing_was_fed() -> None:
    async with running() as rig:
        await rig.assign(*PARTITIONS)
        await asyncio.sleep(0.1)  # ten intervals
        assert [task.commits for task in rig.tasks.values()] == [0, 0, 0]


async def test_an_idle_task_has_the_whole_limit_to_recover(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running_task, "RECOVERY_LIMIT_SECONDS", 1.0)
    monkeypatch.setattr(running_task, "RECOVERY_BACKOFF_SECONDS", 0.02)
    async with running() as rig:
        await rig.assign(P0)
        await asyncio.sleep(1.2)  # nothing to do for longer than the limit
        rig.tasks[0].commit_errors = [StartOver("the broker restarts")]
        rig.tasks[0].recover_errors = [KafkaError("away")]
        rig.consumer.records = {P0: [Record(0)]}
        await rig.until(lambda: rig.tasks[0].commits == 1)
        await rig.until(lambda: rig.health.ready)


async def test_recovery_that_fails_for_longer_than_the_limit_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running_task, "RECOVERY_LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(running_task, "RECOVERY_BACKOFF_SECONDS", 0.02)
    with pytest.raises(KafkaError):
        async with running() as rig:
            await rig.assign(P0)
            rig.tasks[0].commit_errors = [StartOver("the broker is away")]
            rig.tasks[0].recover_errors = [KafkaError("away")] * 1_000
            rig.consumer.records = {P0: [Record(0)]}
            await rig.until(lambda: rig.has_ended)


@pytest.mark.parametrize("moves_on", [False, True], ids=["stands", "another moves it on"])
async def test_commits_that_fail_for_longer_than_the_limit_end_the_process(
    monkeypatch: pytest.MonkeyPatch, moves_on: bool
) -> None:
    """Kafka refuses what is to be written, and each recovery succeeds: it would go round for ever.
    Who only loses a race against another is no such case."""
    monkeypatch.setattr(running_task, "RECOVERY_LIMIT_SECONDS", 0.2)
    with pytest.raises(StartOver) if not moves_on else nullcontext():
        async with running() as rig:
            await rig.assign(P0)
            task = rig.tasks[0]
            task.commit_errors = [StartOver("too large")] * 1_000
            async with asyncio.timeout(60):
                while not rig.has_ended and task.commits < 20:
                    if rig.health.ready and not task.fed:
                        task.next = moves_on * task.commits
                        rig.consumer.records = {P0: [Record(task.next)]}
                    await asyncio.sleep(0.01)
            task.commit_errors = []


async def test_not_ready_before_it_has_joined() -> None:
    async with running() as rig:
        await asyncio.sleep(0.03)
        assert not rig.health.ready


async def test_a_spare_member_is_ready() -> None:
    async with running() as rig:
        await rig.consumer.rebalance()
        await rig.until(lambda: rig.health.ready)


async def test_a_task_of_other_partitions_is_another_task() -> None:
    """A topic is gone: the task that had a partition of it seeks there no more."""
    other = TopicPartition("u", 0)
    async with running() as rig:
        await rig.consumer.rebalance(P0, other)
        await rig.until(lambda: rig.health.ready and bool(rig.tasks))
        before = rig.tasks[0]
        await rig.consumer.rebalance(P0)
        await rig.until(lambda: rig.tasks[0] is not before)
        await rig.until(lambda: rig.health.ready)
        assert rig.tasks[0].partitions == {P0}


async def test_what_a_check_raises_ends_the_loop_uncommitted() -> None:
    with pytest.raises(PositionLost):
        async with running() as rig:
            await rig.assign(P0)
            rig.lost = PositionLost("made anew")
            rig.consumer.records = {P0: [Record(0)]}
            await asyncio.sleep(0.1)
    assert not rig.tasks[0].commits


async def test_a_log_that_went_back_stops_the_process() -> None:
    with pytest.raises(PositionLost):
        async with running() as rig:
            await rig.assign(P0)
            rig.consumer.records = {P0: [Record(7)]}
            await rig.until(lambda: rig.tasks[0].commits == 1)
            rig.consumer.records = {P0: [Record(3)]}
            await rig.until(lambda: rig.has_ended)


async def test_a_position_behind_control_records_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_loop, "LAG_SECONDS", 0.01)
    async with running() as rig:
        await rig.assign(P0)
        rig.consumer.positions[P0] = 5  # passed without a record
        await rig.until(lambda: rig.tasks[0].skipped == [5])


@pytest.mark.parametrize(("is_member", "recoveries"), [(True, 2), (False, 1)])
async def test_who_is_fenced_recovers_only_as_a_member(is_member: bool, recoveries: int) -> None:
    """A stranger that inits anew would fence the owner, who would fence it in turn."""
    async with running() as rig:
        await rig.assign(P0)
        rig.consumer.is_member = is_member
        rig.tasks[0].commit_errors = [Fenced("by another")]
        rig.consumer.records = {P0: [Record(0)]}
        await rig.until(lambda: rig.tasks[0].commits == 1)
        await rig.until(lambda: rig.tasks[0].recoveries >= recoveries)
        await asyncio.sleep(0.1)  # time to recover once more
        assert rig.tasks[0].recoveries == recoveries


async def test_a_group_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not known counts as a member: recovering is safe in any case."""
    monkeypatch.setattr(runtime_loop, "MEMBERSHIP_TIMEOUT_SECONDS", 0.05)

    async def unanswered(offsets: Any) -> None:
        await asyncio.sleep(3_600)

    async with running() as rig:
        monkeypatch.setattr(rig.consumer, "commit", unanswered)
        await rig.assign(P0)
        rig.tasks[0].commit_errors = [Fenced("by another")]
        rig.consumer.records = {P0: [Record(0)]}
        await rig.until(lambda: rig.tasks[0].recoveries == 2)


STUCK_SECONDS = 1.0  # a busy machine may give us no turn for a while


@pytest.fixture
def _quick_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_loop, "LAG_SECONDS", 0.02)
    monkeypatch.setattr(watch, "ASK_SECONDS", 0.05)


@pytest.mark.usefixtures("_quick_watchdog")
class TestWatchdog:
    """Told from timestamps: nothing of the loop needs to run for it."""

    async def test_a_loop_whose_commit_hangs_is_not_live(self) -> None:
        async with running(stuck_seconds=STUCK_SECONDS) as rig:
            await rig.assign(P0)
            rig.tasks[0].may_commit.clear()
            rig.consumer.records = {P0: [Record(0)]}
            await rig.until(lambda: rig.tasks[0].commits == 1)
            assert not rig.health.why_not_live()
            try:
                await rig.until(lambda: "the loop" in rig.health.why_not_live())
            finally:
                rig.tasks[0].may_commit.set()
            await rig.until(lambda: not rig.health.why_not_live())

    async def test_an_idle_loop_is_live(self) -> None:
        async with running(stuck_seconds=STUCK_SECONDS) as rig:
            await rig.assign(*PARTITIONS)
            await rig.stays_live()

    async def test_a_consumer_that_hands_out_nothing_though_it_is_behind(self) -> None:
        async with running(stuck_seconds=STUCK_SECONDS) as rig:
            await rig.assign(P0)
            rig.consumer.ends = {P0: 5}  # the broker answers, and nothing comes
            await rig.until(lambda: "t-0" in rig.health.why_not_live())

    async def test_a_consumer_that_asks_no_more(self) -> None:
        async with running(stuck_seconds=STUCK_SECONDS) as rig:
            await rig.assign(P0)
            rig.consumer.hangs = True
            await rig.until(lambda: "t-0" in rig.health.why_not_live())

    async def test_kafka_away_is_no_reason_to_restart(self) -> None:
        async with running(stuck_seconds=STUCK_SECONDS) as rig:
            await rig.assign(P0)
            rig.consumer.hangs = rig.consumer.away = True
            await rig.stays_live()

    async def test_a_rebalance_that_does_not_end(self) -> None:
        async with running(stuck_seconds=STUCK_SECONDS) as rig:
            await rig.assign(P0)
            rig.loop.revoked()
            await rig.until(lambda: "assignment" in rig.health.why_not_live())

    async def test_what_is_given_up_is_not_watched(self) -> None:
        async with running(stuck_seconds=STUCK_SECONDS) as rig:
            await rig.assign(P0, P1)
            await rig.assign(P1)
            await rig.stays_live()

    async def test_a_task_that_restores_may_take_its_time(self) -> None:
        async with running(stuck_seconds=STUCK_SECONDS) as rig:
            await rig.assign(P0)
            rig.tasks[0].may_recover.clear()
            rig.tasks[0].commit_errors = [StartOver("result unknown")]
            rig.consumer.records = {P0: [Record(0)]}
            await rig.until(lambda: rig.tasks[0].recoveries == 2)
            try:
                await rig.stays_live()
            finally:
                rig.tasks[0].may_recover.set()
