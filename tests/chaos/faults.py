"""Every fault that the stack must bear, as a small object: inject it, wait, heal it.

The driver decides when, and what must hold. `hold_seconds` is how long a fault must last to be
what it says. What a fault did to the stack it can undo, also when the stack ended a part meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import GroupIdNotFound, NoError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest

from processors.store import RocksStore
from processors.wiring import group_of
from schemas.topics import COMPACTED, DAY_MS
from sendtrace.runtime.settings import Settings

from chaos.proxy import Weather
from chaos.stack import STAGES, Stack, state_dir

KAFKA_MS = 10_000
# Of slow connections, until a process is in the middle of something.
SLOW_SECONDS = 2.0


class Fault(ABC):
    """One thing that goes wrong. `name` is for the report."""

    hold_seconds: float = 0.0

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    def kind(self) -> str:
        """The name that the report counts under: whichever broker it was, it is the same fault."""
        return re.sub(r"kafka-\d", "kafka", self.name)

    @abstractmethod
    async def inject(self, stack: Stack) -> None: ...

    async def heal(self, stack: Stack) -> None:  # noqa: B027  # nothing is the usual case
        """What was injected once needs nothing."""


@dataclass(frozen=True)
class Killed(Fault):
    """SIGKILL of parts at once (brokers: as many as named), and a start."""

    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{' and '.join(self.parts)} killed"

    async def inject(self, stack: Stack) -> None:
        for part in self.parts:
            await stack.kill(part)

    async def heal(self, stack: Stack) -> None:
        await _start(stack, self.parts)


@dataclass(frozen=True)
class Away(Fault):
    """Parts stopped as an operator stops them, and started again."""

    parts: tuple[str, ...]
    hold_seconds: float = 0.0
    how_long: str = ""  # for the report

    @property
    def name(self) -> str:
        return f"{' and '.join(self.parts)} away{self.how_long and ' for '}{self.how_long}"

    async def inject(self, stack: Stack) -> None:
        # Side by side: the last broker of a majority would wait for the others to take over.
        async with asyncio.TaskGroup() as tasks:
            for part in self.parts:
                tasks.create_task(stack.stop(part))

    async def heal(self, stack: Stack) -> None:
        await _start(stack, self.parts)


@dataclass(frozen=True)
class OneAwayThenTwo(Fault):
    """A broker is stopped, and while it is away another is killed: then nobody acknowledges."""

    first: str
    second: str
    hold_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.first} away, then {self.second} too"

    async def inject(self, stack: Stack) -> None:
        await stack.stop(self.first)
        await asyncio.sleep(self.hold_seconds)
        await stack.kill(self.second)

    async def heal(self, stack: Stack) -> None:
        await _start(stack, (self.first, self.second))


@dataclass(frozen=True)
class MembersAdded(Fault):
    """``count`` more of a stage come; then they leave one by one, the last by SIGKILL."""

    part: str
    count: int
    hold_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.part}s added and removed (1 to {1 + self.count})"

    async def inject(self, stack: Stack) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(1, 1 + self.count):
                tasks.create_task(stack.start_spare(self.part, number))

    async def heal(self, stack: Stack) -> None:
        for number in range(1, self.count):
            await stack.leave_spare(self.part, number)
        await stack.kill_spare(self.part, self.count)


@dataclass(frozen=True)
class Suspended(Fault):
    """SIGSTOP, then SIGCONT: it believes that no time has passed."""

    part: str
    hold_seconds: float = 0.0
    how_long: str = ""  # for the report

    @classmethod
    def past_timeouts(cls, part: str, settings: Settings) -> Suspended:
        """Until its group has given it up and its open transaction was aborted."""
        longest_ms = max(settings.session_timeout_ms, settings.transaction_timeout_ms)
        # The coordinator looks for transactions that are too old every 10 s.
        return cls(part, longest_ms / 1000 + 11.0, " past all timeouts")

    @property
    def name(self) -> str:
        return f"{self.part} suspended{self.how_long}"

    async def inject(self, stack: Stack) -> None:
        await stack.suspend(self.part)

    async def heal(self, stack: Stack) -> None:
        stack.resume(self.part)


@dataclass(frozen=True)
class RollingRestart(Fault):
    """Each part stopped and started, the next when the one before is ready."""

    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"rolling restart of {', '.join(self.parts)}"

    async def inject(self, stack: Stack) -> None:
        for part in self.parts:
            await stack.stop(part)
            await stack.start(part)


@dataclass(frozen=True)
class BadWeather(Fault):
    """The connections through one link are cut, cut half-way, delayed or stalled."""

    link: str
    weather: Weather
    hold_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"connections to {self.link} {_words(self.weather)}"

    async def inject(self, stack: Stack) -> None:
        await stack.links[self.link].set(self.weather)

    async def heal(self, stack: Stack) -> None:
        await stack.links[self.link].heal()


CUT = Weather(cut_after_bytes=0)
CUT_HALF_WAY = Weather(cut_after_bytes=5_000)
STALLED = Weather(is_stalled=True)
DELAYED = Weather(delay_seconds=0.1)


@dataclass(frozen=True)
class KilledInWeather(Fault):
    """SIGKILL where the weather is bad: in the middle of what it was doing.

    What was under way is lost with its connections, or the proxy would still hand it over.
    """

    part: str
    link: str
    weather: Weather
    for_seconds: float

    @property
    def name(self) -> str:
        return f"{self.part} killed, connections to {self.link} {_words(self.weather)}"

    async def inject(self, stack: Stack) -> None:
        link = stack.links[self.link]
        await link.set(self.weather)
        try:
            await asyncio.sleep(self.for_seconds)
            await stack.kill(self.part)
            await link.set(CUT)
        finally:
            await link.heal()

    async def heal(self, stack: Stack) -> None:
        await stack.start(self.part)


@dataclass(frozen=True)
class SuspendedInWeather(Fault):
    """SIGSTOP where the connections are slow: in the middle of a commit, most of the time."""

    part: str
    link: str
    hold_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.part} suspended in the middle of its work"

    async def inject(self, stack: Stack) -> None:
        link = stack.links[self.link]
        await link.set(DELAYED)
        try:
            await asyncio.sleep(SLOW_SECONDS)
            await stack.suspend(self.part)
        finally:
            await link.heal()

    async def heal(self, stack: Stack) -> None:
        stack.resume(self.part)


@dataclass(frozen=True)
class TakenOver(SuspendedInWeather):
    """The same, and another takes its place before it goes on: two believe to be the owner."""

    @property
    def name(self) -> str:
        return f"{self.part} suspended, taken over, and back"

    async def inject(self, stack: Stack) -> None:
        await super().inject(stack)
        await stack.start_spare(self.part)

    async def heal(self, stack: Stack) -> None:
        await super().heal(stack)
        await asyncio.sleep(SLOW_SECONDS)  # both are there
        await stack.kill_spare(self.part)


@dataclass(frozen=True)
class StateDropped(Fault):
    """A stage's disk is lost with its node: state, and the instance id with it."""

    part: str

    @property
    def name(self) -> str:
        return f"state of {self.part} dropped"

    async def inject(self, stack: Stack) -> None:
        await stack.kill(self.part)
        shutil.rmtree(state_dir(stack.settings, self.part))

    async def heal(self, stack: Stack) -> None:
        await stack.start(self.part)


@dataclass(frozen=True)
class StateCorrupted(Fault):
    """Bits flip in every table file of so many tasks, where each start reads: see `flip`."""

    part: str
    tasks: int = 3

    @property
    def name(self) -> str:
        return f"state of {self.part} corrupted"

    async def inject(self, stack: Stack) -> None:
        # What is in the log goes into tables when RocksDB opens: only then is there one to damage.
        for _ in range(2):
            await stack.kill(self.part)
            if tables := table_files(stack, self.part):
                break
            await stack.start(self.part)
        assert tables, f"{self.part} has no table file: no state was written yet"
        damaged = sorted({table.parent for table in tables})[: self.tasks]
        for table in tables:
            if table.parent in damaged:
                flip(table)

    async def heal(self, stack: Stack) -> None:
        """It drops what it finds damaged, and does not end."""
        await stack.start(self.part)


@dataclass(frozen=True)
class StateOutdated(Fault):
    """A stage comes back after longer than tombstones are kept: its state may lack some.

    Its stores are given the age, as nobody waits for a week.
    """

    part: str
    age_ms: int = int(COMPACTED["delete.retention.ms"])

    @property
    def name(self) -> str:
        return f"state of {self.part} idle for {self.age_ms // DAY_MS} days"

    async def inject(self, stack: Stack) -> None:
        await stack.kill(self.part)
        for path in stores(stack, self.part):
            store = RocksStore(path)
            store.meta.caught_up_at_ms -= self.age_ms
            store.write([], [], store.meta)
            store.close()

    async def heal(self, stack: Stack) -> None:
        await stack.start(self.part)


@dataclass(frozen=True)
class OffsetsMoved(Fault):
    """The group's offsets are set back to 0, as any operator may do. Only lag tools read them."""

    part: str

    @property
    def name(self) -> str:
        return f"offsets of {self.part} moved to 0"

    async def inject(self, stack: Stack) -> None:
        await stack.kill(self.part)
        zero = {
            TopicPartition(stack.settings.topic(name), partition): 0
            for name in STAGES[self.part].inputs
            for partition in range(stack.settings.partitions)
        }
        producer = _producer(stack.settings, transactional_id=f"chaos-offsets-{self.part}")
        await producer.start()
        try:
            # A commit of ours would be refused, for the member's session goes on; one in a
            # transaction is taken from anybody.
            async with producer.transaction():
                await producer.send_offsets_to_transaction(zero, _group(stack, self.part))
        finally:
            await producer.stop()

    async def heal(self, stack: Stack) -> None:
        await stack.start(self.part)


@dataclass(frozen=True)
class OffsetsDeleted(Fault):
    """The whole group is deleted, as it expires after a week without members."""

    part: str

    @property
    def name(self) -> str:
        return f"group of {self.part} deleted"

    async def inject(self, stack: Stack) -> None:
        await stack.leave(self.part)
        group = _group(stack, self.part)
        client = AIOKafkaClient(
            bootstrap_servers=stack.settings.kafka_bootstrap, request_timeout_ms=KAFKA_MS
        )
        try:
            await client.bootstrap()
            coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
            response = await client.send(coordinator, DeleteGroupsRequest([group]))
        finally:
            await client.close()
        for _, code in response.results:
            if for_code(code) not in (NoError, GroupIdNotFound):
                raise for_code(code)

    async def heal(self, stack: Stack) -> None:
        await stack.start(self.part)


@dataclass(frozen=True)
class KilledDuringScrape(Fault):
    """The exporter dies while Prometheus reads. Prometheus must not take half for a whole."""

    part: str = "exporter"

    @property
    def name(self) -> str:
        return "exporter killed during a scrape"

    async def inject(self, stack: Stack) -> None:
        url = f"http://127.0.0.1:{stack.settings.port(self.part)}/metrics"
        asked = asyncio.Event()

        async def scrape() -> None:
            async with aiohttp.ClientSession() as http:
                while True:
                    asked.set()
                    async with http.get(url) as answer:
                        await answer.read()

        scraper = asyncio.create_task(scrape())
        await asked.wait()
        await asyncio.sleep(0.05)
        await stack.kill(self.part)
        with contextlib.suppress(aiohttp.ClientError):  # refused, or cut in mid-answer
            await asyncio.wait_for(scraper, 60)

    async def heal(self, stack: Stack) -> None:
        await stack.start(self.part)


@dataclass(frozen=True)
class DiskFull(Fault):
    """No room for state or PostgreSQL's data, which must have a disk of their own."""

    part: str
    hold_seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"disk of {self.part} full"

    async def inject(self, stack: Stack) -> None:
        disk = stack.disks[self.part]
        assert disk.is_mount(), f"{self.part} has no disk of its own: see running_stack"
        with self.filler(stack).open("wb", buffering=0) as file:
            for size in (2**20, 2**12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    async def heal(self, stack: Stack) -> None:
        """It may have ended for want of room."""
        self.filler(stack).unlink(missing_ok=True)
        await stack.start(self.part)

    def filler(self, stack: Stack) -> Path:
        return stack.disks[self.part] / "filler"


def stores(stack: Stack, part: str) -> list[Path]:
    """The folders of its tasks' states."""
    return sorted(path.parent for path in state_dir(stack.settings, part).glob("*/CURRENT"))


def table_files(stack: Stack, part: str) -> list[Path]:
    return sorted(state_dir(stack.settings, part).glob("*/*.sst"))


def flip(path: Path) -> None:
    """Invert sixteen bytes at the beginning, where the first data block is.

    The keys of deadlines sort before all others, and a stage that starts looks for what is due from
    the first on. So the damage is met for certain, and not only when a message is asked for.
    """
    with path.open("r+b") as file:
        file.seek(8)
        damaged = bytes(byte ^ 0xFF for byte in file.read(16))
        file.seek(8)
        file.write(damaged)
        os.fsync(file.fileno())


def _group(stack: Stack, part: str) -> str:
    return group_of(stack.settings, STAGES[part])


def _producer(settings: Settings, **options: object) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap,
        acks="all",
        request_timeout_ms=KAFKA_MS,
        **options,
    )


def _words(weather: Weather) -> str:
    if weather.is_stalled:
        return "stalled"
    if weather.cut_after_bytes is not None:
        return f"cut after {weather.cut_after_bytes} bytes" if weather.cut_after_bytes else "cut"
    return f"delayed by {weather.delay_seconds:g} s"


async def _start(stack: Stack, parts: tuple[str, ...]) -> None:
    """Side by side: a broker of three is ready only when a majority is."""
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(stack.start(part))
