"""How long a partition stands still when its joiner is killed, replaced, or frozen.

    python -m bench.failover [MESSAGES]       (100,000 open messages; a Kafka of its own)

Real Kafka, real RocksDB, `sendtrace joiner` as it is deployed. Times count from the SIGKILL; right
after it one event for each partition is put into Kafka, and the outputs of all are waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from bench.join import EventToFill, produce, status_body
from bench.open_messages import JoinerProcess, fill_apart, joiner_process, message_ids
from processors.wiring import group_of
from schemas.topics import LIFECYCLES, STATUSES, partition_of
from sendtrace.local.kafka import LocalKafka
from sendtrace.local.process import choose_port
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import KafkaClients, partitions_of
from sendtrace.runtime.settings import Settings

MESSAGES = 100_000
# Each event needs an open message of its own, also those of the load before a freeze.
LEAST_MESSAGES = 20_000
WAIT_SECONDS = 180.0
# A transaction is open for some milliseconds of its 200.
FREEZE_TRIES = 200
# Of the same joiner with its state kept.
GOAL = "5 / 10 s, floor 15 / 20 s"


class Outage(Struct, frozen=True):
    """Seconds from the kill to the first output, and until every partition had one."""

    first: float
    all: float


class Rounds:
    """Events of open messages: one for each partition, and others each time."""

    def __init__(self, settings: Settings, messages: int) -> None:
        self.settings = settings
        self.clients = KafkaClients(settings)
        self._ids: dict[int, Iterator[str]] = {
            p: filter(lambda key, p=p: self._home(key) == p, message_ids(0, messages))  # type: ignore[misc]
            for p in range(settings.partitions)
        }

    def _home(self, message_id: str) -> int:
        return partition_of(message_id.encode(), self.settings.partitions)

    def events(self) -> list[EventToFill]:
        ids = [next(ids) for ids in self._ids.values()]
        return [(STATUSES, one, status_body(one, "delivered", 4)) for one in ids]

    @contextlib.asynccontextmanager
    async def outputs(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A read_committed reader at the end of all outputs."""
        reader = self.clients.reader()
        partitions = partitions_of(self.settings, LIFECYCLES)
        reader.assign(partitions)
        await reader.start()
        try:
            for tp, end in (await reader.end_offsets(partitions)).items():
                reader.seek(tp, end)
            yield reader
        finally:
            await reader.stop()

    async def outage(self, reader: AIOKafkaConsumer, killed_at: float) -> Outage:
        await produce(self.clients, self.settings, self.events())
        waiting, first = set(reader.assignment()), 0.0
        async with asyncio.timeout(WAIT_SECONDS):
            while waiting:
                waiting -= set(await reader.getmany(timeout_ms=100))
                if not first and len(waiting) < len(reader.assignment()):
                    first = time.monotonic() - killed_at
        return Outage(first, time.monotonic() - killed_at)


async def restarted(rounds: Rounds, joiner: JoinerProcess, *, keeps_state: bool) -> Outage:
    """The same joiner, at once; the one that is measured is killed at the end."""
    settings = rounds.settings
    async with rounds.outputs() as reader:
        await joiner.end(kill=True)
        killed_at = time.monotonic()
        if not keeps_state:  # the instance id stays: the member is the same
            for partition in range(settings.partitions):
                shutil.rmtree(settings.state_dir / group_of(settings) / str(partition))
        async with joiner_process(settings):
            return await rounds.outage(reader, killed_at)


async def taken_over(rounds: Rounds, directory: Path) -> Outage:
    """By one that runs beside, and has no state of the partitions that it takes."""
    settings = rounds.settings
    other = replace(settings, data_dir=str(directory), joiner_port=choose_port(0))
    async with joiner_process(settings) as joiner:
        await joiner.until_ready()
        async with joiner_process(other) as survivor:
            await survivor.until_ready()
            async with rounds.outputs() as reader:  # both work
                await rounds.outage(reader, time.monotonic())
            async with rounds.outputs() as reader:
                await joiner.end(kill=True)
                return await rounds.outage(reader, time.monotonic())


async def frozen(rounds: Rounds) -> float:
    """Seconds for which readers stand before the open transaction of a stopped joiner."""
    async with joiner_process(rounds.settings) as joiner, rounds.outputs() as reader:
        await joiner.until_ready()
        await rounds.outage(reader, time.monotonic())
        enough = asyncio.Event()
        load = asyncio.create_task(_load(rounds, enough))
        try:
            for _ in range(FREEZE_TRIES):
                await asyncio.sleep(0.23)
                joiner.suspend()
                stopped_at = time.monotonic()
                if await _is_open(rounds, reader):
                    break
                joiner.resume()
            else:
                raise RuntimeError("no transaction was open in any of the tries")
            async with asyncio.timeout(WAIT_SECONDS):
                while await _is_open(rounds, reader):
                    await asyncio.sleep(0.1)
            return time.monotonic() - stopped_at
        finally:
            enough.set()
            await load


async def _load(rounds: Rounds, enough: asyncio.Event) -> None:
    while not enough.is_set():
        await produce(rounds.clients, rounds.settings, rounds.events())


async def _is_open(rounds: Rounds, reader: AIOKafkaConsumer) -> bool:
    """Whether a transaction holds back a reader that wants only what is committed."""
    everything = AIOKafkaConsumer(bootstrap_servers=rounds.settings.kafka_bootstrap)
    await everything.start()
    try:
        partitions = list(reader.assignment())
        written = await everything.end_offsets(partitions)
        stable = await reader.end_offsets(partitions)
        return any(stable[tp] < written[tp] for tp in partitions)
    finally:
        await everything.stop()


async def main(messages: int) -> None:
    if messages < LEAST_MESSAGES:
        raise SystemExit(f"at least {LEAST_MESSAGES:,} messages are needed")
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as directory:
        kafka = await LocalKafka.start(Path(directory) / "kafka", heap_megabytes=1024)
        try:
            settings = Settings(
                kafka_bootstrap=kafka.bootstrap, topic_prefix="failover.",
                data_dir=str(Path(directory) / "data"), joiner_port=choose_port(0),
            )  # fmt: skip
            await topics.apply(settings)
            rounds = Rounds(settings, messages)
            table = Table(title=f"SIGKILL of a joiner with {messages:,} open messages")
            for column in ("", "first output", "all partitions", "goal"):
                table.add_column(column, justify="right")
            async with joiner_process(settings) as joiner:
                await joiner.until_ready()
                await fill_apart(settings, messages)
                await joiner.until_read(messages)
                _row(table, "restarted", await restarted(rounds, joiner, keeps_state=True), GOAL)
            async with joiner_process(settings) as joiner:
                await joiner.until_ready()
                lost = await restarted(rounds, joiner, keeps_state=False)
                _row(table, "restarted, its state gone", lost)
            session = f"session timeout {settings.session_timeout_ms / 1000:.0f} s"
            other = await taken_over(rounds, Path(directory) / "other")
            _row(table, "taken over by another", other, session)
            console.print(table)
            console.print(
                f"frozen in mid transaction: readers wait {await frozen(rounds):.1f} s "
                f"(transaction timeout {settings.transaction_timeout_ms / 1000:.0f} s, and Kafka "
                "looks every 10 s); load average", *(f"{one:.1f}" for one in os.getloadavg()),
            )  # fmt: skip
        finally:
            await kafka.stop()


def _row(table: Table, what: str, outage: Outage, goal: str = "") -> None:
    table.add_row(what, f"{outage.first:.1f} s", f"{outage.all:.1f} s", goal)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES))
