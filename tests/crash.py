"""Processes that die at every await point of theirs, again and again, over one cluster.

A ``Lane`` is a cluster on which traffic goes on from crash to crash. What came out in the end has
to equal, byte by byte, what one undisturbed process made of the same traffic (``Lane.check``).

Another stage is swept with another ``StageUnderTest``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka.errors import KafkaConnectionError
from rocksdict import DbClosedError

from processors import wiring
from processors.joining import GAPS, decode_gaps
from processors.store import Store
from schemas.codec import Headers, decode_positions, decode_totals
from schemas.topics import TOTALS
from schemas.totals import POSITIONS, parse_key
from sendtrace.runtime.kafka import (
    Consumer,
    Partition,
    Producer,
    partitions_of,
    stop_quietly,
)
from sendtrace.runtime.reading import open_reader
from sendtrace.runtime.topics import DependencyAway

from engine import read_all, running_joiner
from fakes.cluster import Cluster, MemoryCluster
from fakes.mortal import Killed, MortalClients, Point, Refused
from waiting import within

VICTIM = "victim"  # the static member that dies; the other one comes and goes
# Above what any wait here takes on a busy machine; who waits longer has lost something.
LIMIT_SECONDS = 60.0
# Some points need a certain history: those that were not reached get another one.
ROUNDS = 4
WAVES = 10
# Of what differs in the end, so much is told.
SHOWN = 5


class Put(NamedTuple):
    """An input record; ``topic`` without prefix."""

    topic: str
    partition: int
    key: str
    value: bytes
    headers: Headers


@dataclass(frozen=True)
class StageUnderTest:
    name: str  # in the keys of totals
    process: wiring.Process
    changelog: str
    # The n-th portion of traffic, for so many partitions. What belongs together comes in one
    # partition of one topic, or the number of commits would show in the totals.
    wave: Callable[[int, int], Sequence[Put]]


@dataclass(frozen=True)
class Outcome:
    """What subscribers see: the latest value of each key, and everything in totals."""

    values: dict[bytes, bytes]
    totals: dict[bytes, Any]


class Process:
    """One life of a process: its clients, its stores, and how it ended."""

    def __init__(
        self,
        cluster: Cluster,
        stage: StageUnderTest,
        open_store: Callable[[int], Store],
        instance_id: str | None,
        hit: Callable[[Point], Awaitable[None]],
    ) -> None:
        self._cluster = cluster
        self._stage = stage
        self._open_store = open_store
        self._instance_id = instance_id
        self.clients = MortalClients(cluster.clients, cluster.settings.topic_prefix, hit)
        self._stores: list[Store] = []
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Whatever it is doing. For the end of a test that failed, which must tell its own tale."""
        self.clients.is_dead = True
        self._stopping.set()
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=LIMIT_SECONDS)

    @property
    def is_over(self) -> bool:
        return self._task.done()

    async def stop(self) -> None:
        """In order, unless it dies on the way, or is dead. Raises what nobody planned."""
        self._stopping.set()
        await within(LIMIT_SECONDS, "a process to end in order", self._task)

    async def _run(self) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            for is_last in (False, False, True):
                try:
                    return await self._live(stopping)
                except (KafkaConnectionError, DependencyAway):
                    # This machine is busy: exit code 4, and a supervisor starts it again.
                    if is_last:
                        raise
        except (Killed, Refused):
            pass  # as planned
        finally:
            stopping.cancel()
            await self._bury()

    async def _live(self, stopping: asyncio.Task[bool]) -> None:
        async with running_joiner(
            self._cluster.settings,
            self.clients,
            self._open,
            instance_id=self._instance_id,
            process=self._stage.process,
        ) as task:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)

    def _open(self, partition: int) -> Store:
        self._stores.append(self._open_store(partition))
        return self._stores[-1]

    async def _bury(self) -> None:
        for client in self.clients.made:
            await self._cluster.kill(client)
        for store in self._stores:
            with contextlib.suppress(DbClosedError):
                store.close()


async def kill(lane: Lane) -> None:
    """SIGKILL."""
    raise Killed


async def refuse(lane: Lane) -> None:
    """Before an operation: it fails. After it: it was done, and nobody is told."""
    raise Refused


async def freeze(lane: Lane) -> None:
    """SIGSTOP, to all of the process."""
    lane.running.clear()
    await lane.running.wait()


Blow = Callable[["Lane"], Awaitable[None]]


async def _go_on(point: Point) -> None:
    """What happens at the points of a process that is left alone."""


class Lane:
    """A cluster on which processes die one after the other, while traffic goes on."""

    def __init__(
        self, cluster: Cluster, stage: StageUnderTest, producer: Producer, reader: Consumer
    ) -> None:
        self.cluster = cluster
        self.stage = stage
        self.seen: set[Point] = set()
        self.hits: Counter[Point] = Counter()
        self.waves = 0
        self._producer = producer
        self._reader = reader
        self._totals = partitions_of(cluster.settings, TOTALS)
        self._inputs = _inputs_of(cluster, stage)
        self._last: dict[Partition, int] = {}  # offset of the last record put
        self._positions: dict[Partition, int] = {}
        self._target: Point | None = None
        self._blow: Blow = kill
        self._is_struck = False
        self.running = asyncio.Event()  # else the victim is stopped, with all of its tasks
        self.processes: list[Process] = []
        self._other: Process | None = None
        self._leaving: asyncio.Task[None] | None = None

    # -- traffic -------------------------------------------------------------------------------

    async def feed(self) -> None:
        """The next wave. Each partition's share of it is one batch: it comes in one poll."""
        batches: dict[Partition, Any] = {}
        for put in self.stage.wave(self.waves, self.cluster.settings.partitions):
            tp = Partition(self.cluster.settings.topic(put.topic), put.partition)
            batch = batches.setdefault(tp, self._producer.create_batch())
            batch.append(timestamp=None, key=put.key.encode(), value=put.value, headers=put.headers)
        self.waves += 1
        for tp, batch in batches.items():
            put = self._put(tp, batch)
            self._last[tp] = await within(LIMIT_SECONDS, f"the acknowledgement of {tp}", put)

    async def _put(self, tp: Partition, batch: Any) -> int:
        """Answers the offset of the last record."""
        ack = await (await self._producer.send_batch(batch, tp.topic, partition=tp.partition))
        return int(ack.offset + batch.record_count() - 1)

    async def is_all_read(self) -> bool:
        """By the committed positions: past all that was put, and up to the end as it is now."""
        ends = await self._reader.end_offsets(self._totals)
        while any([await self._reader.position(tp) < ends[tp] for tp in self._totals]):
            for records in (await self._reader.getmany(timeout_ms=20)).values():
                for record in records:
                    self._note(record.key, record.value)
        positions = self._positions
        if any(positions.get(tp, 0) <= last for tp, last in self._last.items()):
            return False
        ends = await self._reader.end_offsets(self._inputs)
        return all(positions.get(tp, 0) >= end for tp, end in ends.items())

    def _note(self, key: bytes, value: bytes) -> None:
        parsed = parse_key(key)
        if parsed.stage == self.stage.name and parsed.labels == POSITIONS:
            for name, offset in decode_positions(value).next.items():
                self._positions[Partition(self.cluster.settings.topic(name), parsed.partition)] = (
                    offset
                )

    async def _until_all_read(self, process: Process) -> None:
        """Or until the process is over."""

        async def is_so() -> bool:
            return process.is_over or await self.is_all_read()

        await self._until(is_so, "all that was put to be read and committed")

    async def _until(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        async def look() -> None:
            while not await is_so():
                await asyncio.sleep(self.cluster.poll_seconds)

        await within(LIMIT_SECONDS, what, look())

    # -- crashes -------------------------------------------------------------------------------

    async def crash(
        self, target: Point | None, blow: Blow | None = None, *, beside: bool = False
    ) -> bool:
        """Let a process live until it comes to ``target``. Answers whether it ever did.

        What may bring it there is done in turn: traffic, with a second member that joins
        (``beside``) and leaves; a stranger that takes its ids; an orderly end; a start without
        state.
        """
        self._aim(target, blow or kill)
        await self.feed()
        self._leave()
        if beside and self._leaving is None:
            await self._join()
        victim = self._victim()
        await self._until_all_read(victim)
        if self._other is not None and self._may_go_on(victim):
            self._leave()
            await self.feed()
            await self._until_all_read(victim)
        if self._may_go_on(victim):
            await self._fence()
            await self.feed()
            await self._until_all_read(victim)
        await victim.stop()
        if not self._is_struck:
            self.cluster.lose_stores()
            victim = self._victim()
            await self._until_all_read(victim)
            await victim.stop()
        self._target = None
        return self._is_struck

    def _may_go_on(self, victim: Process) -> bool:
        return not victim.is_over and not self._is_struck

    def _victim(self) -> Process:
        return self._process(self.cluster.open_store, VICTIM, self._hit)

    def _process(
        self,
        open_store: Callable[[int], Store],
        instance_id: str | None,
        hit: Callable[[Point], Awaitable[None]],
    ) -> Process:
        self.processes.append(Process(self.cluster, self.stage, open_store, instance_id, hit))
        return self.processes[-1]

    def _aim(self, target: Point | None, blow: Blow) -> None:
        self._target, self._blow, self._is_struck = target, blow, False
        self.running.set()

    async def _hit(self, point: Point) -> None:
        await self.running.wait()
        self.seen.add(point)
        if point == self._target and not self._is_struck:
            self._is_struck = True
            self.hits[point] += 1
            await self._blow(self)

    async def freeze(self, target: Point) -> bool:
        """SIGSTOP at ``target``, until another has taken over and gone on; then SIGCONT."""
        # Kafka grants no session shorter than 6 s: a suite of its own has a zombie there.
        assert isinstance(self.cluster, MemoryCluster)
        self._aim(target, freeze)
        await self.feed()
        zombie = self._victim()
        await self._until_struck_or_all_read(zombie)
        if not self._is_struck:
            await self._fence()
            await self.feed()
            await self._until_struck_or_all_read(zombie)
        stopping = asyncio.create_task(zombie.stop()) if not self._is_struck else None
        await self._until_struck_or_over(zombie)
        for client in zombie.clients.made:
            self.cluster.end_session(client)
        heir = self._process(self.cluster.second_store, None, _go_on)
        await self._until_all_read(heir)
        self.running.set()
        await self.feed()
        await self._until_all_read(heir)
        await (stopping or zombie.stop())
        await self._until_all_read(heir)
        await heir.stop()
        return self._is_struck

    async def _until_struck_or_all_read(self, process: Process) -> None:
        async def is_so() -> bool:
            return self._is_struck or await self.is_all_read()

        await self._until(is_so, "the blow, or all that was put to be read and committed")

    async def _until_struck_or_over(self, process: Process) -> None:
        async def is_so() -> bool:
            return self._is_struck or process.is_over

        await self._until(is_so, "the blow, or the end of the process")

    async def _join(self) -> None:
        """A second member, with state of its own. It is there first, or it would wait for ours."""
        self._other = self._process(self.cluster.second_store, None, _go_on)
        await asyncio.sleep(self.cluster.join_seconds)

    def _leave(self) -> None:
        """It may have to wait for a victim to be back: in Kafka a rebalance waits for everyone."""
        if self._other is not None:
            self._leaving = asyncio.create_task(self._other.stop())
            self._other = None
        if self._leaving is not None and self._leaving.done():
            self._leaving.result()
            self._leaving = None

    async def _fence(self) -> None:
        """Somebody else's init: the next commits are refused, and their tasks recover."""
        group = wiring.group_of(self.cluster.settings, self.stage.process)
        for partition in range(self.cluster.settings.partitions):
            stranger = self.cluster.clients.producer(transactional_id=f"{group}-{partition}")
            try:
                await within(LIMIT_SECONDS, "a stranger's InitProducerId", stranger.start())
            finally:
                await stop_quietly(stranger)

    # -- the end -------------------------------------------------------------------------------

    async def outcome(self) -> Outcome:
        """What came out, after one more process has read everything undisturbed."""
        self._leave()
        last = self._process(self.cluster.open_store, VICTIM, _go_on)
        await self._until_all_read(last)
        assert not last.is_over, "it ended, and nobody had told it to"
        if self._leaving is not None:
            await self._leaving
            await self._until_all_read(last)
        await last.stop()
        settings, clients = self.cluster.settings, self.cluster.clients
        values = read_all(clients, settings, self.stage.changelog)
        changed = dict(await within(LIMIT_SECONDS, "the changelog to be read", values))
        totals: dict[bytes, Any] = {}
        counted = read_all(clients, settings, TOTALS)
        for key, value in await within(LIMIT_SECONDS, "the totals to be read", counted):
            labels = parse_key(key).labels
            if isinstance(labels, dict):
                totals[key] = decode_totals(value)
            elif labels == GAPS:  # the last pulse counts no later than Kafka took it
                totals[key] = decode_gaps(value).closed
            else:
                assert labels == POSITIONS  # control records count, of which crashes make more
        return Outcome(changed, totals)


def _inputs_of(cluster: Cluster, stage: StageUnderTest) -> list[Partition]:
    return [tp for name in stage.process.inputs for tp in partitions_of(cluster.settings, name)]


@asynccontextmanager
async def lane(cluster: Cluster, stage: StageUnderTest) -> AsyncIterator[Lane]:
    producer = cluster.clients.producer()
    await within(LIMIT_SECONDS, "a producer to start", producer.start())
    totals = partitions_of(cluster.settings, TOTALS)
    inputs = _inputs_of(cluster, stage)
    try:
        async with open_reader(cluster.clients, [*totals, *inputs]) as reader:
            for tp in totals:
                reader.seek(tp, 0)
            reader.resume(*totals)
            own = Lane(cluster, stage, producer, reader)
            try:
                yield own
            finally:
                own.running.set()
                for process in own.processes:
                    await process.end()
    finally:
        await stop_quietly(producer)


async def undisturbed(cluster: Cluster, stage: StageUnderTest, waves: int) -> Outcome:
    """What one process makes of so much traffic when nothing happens."""
    async with lane(cluster, stage) as quiet:
        for _ in range(waves):
            await quiet.feed()
        return await quiet.outcome()


async def points_of(cluster: Cluster, stage: StageUnderTest) -> set[Point]:
    """Every await point that a process comes to which nobody kills."""
    async with lane(cluster, stage) as recorded:
        await recorded.crash(None)
        await recorded.crash(None, beside=True)
        return recorded.seen


def _apart(found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> list[str]:
    """What differs, of each thing what was found and what was expected."""
    return [
        f"{key!r}\n  is {found.get(key)!r}\n  not {expected.get(key)!r}"
        for key in sorted(found.keys() | expected.keys())
        if found.get(key) != expected.get(key)
    ]


class Sweep:
    """Kills at every point so many times, and compares what came out after each lane."""

    def __init__(
        self,
        make_cluster: Callable[[], Awaitable[Cluster]],
        stage: StageUnderTest,
        rng: random.Random,
        blow: Blow = kill,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.hits: Counter[Point] = Counter()
        self._make_cluster = make_cluster
        self._stage = stage
        self._rng = rng
        self._blow = blow
        self._tell = tell
        self._expected: dict[int, Outcome] = {}
        self._lock = asyncio.Lock()

    async def run(self, points: Collection[Point], times: int, crashes: int, lanes: int) -> None:
        """Points that come up on the way are swept as well: after a crash there may be others."""
        seen = set(points)
        for _ in range(ROUNDS):
            todo = [point for point in sorted(seen) for _ in range(times - self.hits[point])]
            if not todo:
                self._tell(f"{len(seen)} points, {self.hits.total()} hits")
                return
            self._rng.shuffle(todo)
            pieces = [todo[at : at + crashes] for at in range(0, len(todo), crashes)]
            self._tell(f"{len(seen)} points, {len(todo)} hits to come in {len(pieces)} lanes")
            found = await self._together(pieces, lanes)
            if self._blow is kill:
                seen.update(*found)
        left = {str(point): self.hits[point] for point in seen if self.hits[point] < times}
        assert not left, f"not reached {times} times: {left}"

    async def _together(self, pieces: Sequence[Sequence[Point]], lanes: int) -> list[set[Point]]:
        """So many lanes side by side. One that fails ends the others, and fails the test."""
        free = asyncio.Semaphore(lanes)

        async def run(number: int) -> set[Point]:
            async with free:
                return await self._lane(f"lane {number + 1} of {len(pieces)}", pieces[number])

        running = [asyncio.create_task(run(number)) for number in range(len(pieces))]
        try:
            return await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=2 * LIMIT_SECONDS)

    async def _lane(self, name: str, targets: Sequence[Point]) -> set[Point]:
        async with lane(await self._make_cluster(), self._stage) as own:
            for number, target in enumerate(targets):
                if self._blow is freeze:
                    await own.freeze(target)
                else:
                    await own.crash(target, self._blow, beside=number % 2 == 1)
                self._tell(f"{name}: {own.hits.total()} hits in {number + 1} of {len(targets)}")
            while own.waves % WAVES:  # so that few undisturbed runs do
                await own.feed()
            found, expected = await own.outcome(), await self._undisturbed(own.waves)
        apart = _apart(found.values, expected.values) + _apart(found.totals, expected.totals)
        told = "\n".join([*apart[:SHOWN], f"{len(apart)} differ, after", *map(str, targets)])
        assert not apart, told
        self.hits += own.hits
        return own.seen

    async def _undisturbed(self, waves: int) -> Outcome:
        async with self._lock:
            if waves not in self._expected:
                cluster = await self._make_cluster()
                self._expected[waves] = await undisturbed(cluster, self._stage, waves)
        return self._expected[waves]
