"""What a joiner with many open messages costs: memory, and the time until it is back.

    python -m bench.open_messages                     (a Kafka of its own)
    python -m bench.open_messages fill MESSAGES       (settings from the environment)

Real Kafka, real RocksDB, and `sendtrace joiner` as it is deployed, one for all 12 partitions. Each
message has said `submitted` and no more: it is open, and its deadline stands in the index. Memory
is read from outside, as the unique set size (what would be free if the process ended), before the
first record and after the last; file pages that the kernel may drop are in neither. Ids are spread
as real ones are: in order, RocksDB would never have to merge.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import md5
from pathlib import Path
from uuid import UUID

import aiohttp
import msgspec
import psutil
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.join import EventToFill, produce, status_body
from processors.wiring import group_of
from schemas.topics import LIFECYCLES, STATUSES
from sendtrace.local.kafka import LocalKafka
from sendtrace.local.process import choose_port
from sendtrace.local.scrape import scrape, wait_ready
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import KafkaClients, partitions_of
from sendtrace.runtime.settings import Settings, from_environment, to_environment

MESSAGES = 1_000_000
# Bounds on hanging, and no claim: the slowest that is borne restores 10,000 messages a second.
START_SECONDS = 180.0
JOIN_SECONDS = 480.0
# After the last commit: compaction and the allocator come to rest.
SETTLE_SECONDS = 5.0
MEGABYTE = 1_048_576


class Restart(Struct, frozen=True):
    """From the start of the process; an event of an open message waits for it."""

    settled_bytes: int
    peak_bytes: int
    seconds_to_ready: float
    seconds_to_output: float


class Figures(Struct, frozen=True):
    """What was measured. Bytes are of the joiner's process alone."""

    messages: int
    empty_bytes: int
    filled_bytes: int
    filled_peak_bytes: int
    disk_bytes: int
    join_cpu_us: float  # of the joiner, for each message
    stop_seconds: float  # from SIGTERM to the end
    after_sigterm: Restart
    after_sigkill: Restart
    without_state: Restart

    def bytes_a_message(self, settled_bytes: int) -> float:
        return (settled_bytes - self.empty_bytes) / self.messages

    @property
    def restored_a_second(self) -> float:
        return self.messages / self.without_state.seconds_to_ready


def message_ids(begin: int, end: int) -> Iterator[str]:
    """Always the same ones, spread over the whole range as Vonage's are."""
    for number in range(begin, end):
        digest = md5(number.to_bytes(8, "big"), usedforsecurity=False).digest()
        yield str(UUID(bytes=digest, version=4))


def submitted(messages: int) -> Iterator[EventToFill]:
    for message_id in message_ids(0, messages):
        yield STATUSES, message_id, status_body(message_id, "submitted", 1)


class JoinerProcess:
    """`sendtrace joiner`, watched from outside."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._port = port
        self._memory = psutil.Process(process.pid)
        self.peak_bytes = 0

    async def until_ready(self) -> None:
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
            ready = asyncio.create_task(wait_ready(http, self._port))
            while not ready.done():
                self.used_bytes()
                await asyncio.wait([ready], timeout=0.2)

    async def until_read(self, records: int) -> None:
        """Until that many records were read, and nothing is left to read or to commit."""
        async with asyncio.timeout(JOIN_SECONDS), aiohttp.ClientSession() as http:
            while True:
                self.used_bytes()
                assert self._process.returncode is None, "the joiner ended"
                page = (await scrape(http, {"joiner": self._port})).pages.get("joiner", ())
                figures = {sample.name: sample.value for sample in page}
                if (
                    figures.get("sendtrace_loop_records_total", 0) >= records
                    and figures.get("sendtrace_loop_lag_records") == 0
                ):
                    return
                await asyncio.sleep(0.2)

    async def settled_bytes(self) -> int:
        await asyncio.sleep(SETTLE_SECONDS)
        return self.used_bytes()

    def used_bytes(self) -> int:
        used: int = self._memory.memory_full_info().uss
        self.peak_bytes = max(self.peak_bytes, used)
        return used

    def cpu_seconds(self) -> float:
        times = self._memory.cpu_times()
        return float(times.user + times.system)

    def suspend(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def end(self, *, kill: bool) -> None:
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        assert await asyncio.wait_for(self._process.wait(), START_SECONDS) == (-9 if kill else 0)


@asynccontextmanager
async def joiner_process(settings: Settings) -> AsyncIterator[JoinerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sendtrace", "joiner", env={**os.environ, **to_environment(settings)}
    )
    try:
        yield JoinerProcess(process, settings.port("joiner"))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def measure(kafka: LocalKafka, directory: Path, messages: int) -> Figures:
    """Fill a joiner, then start it anew after SIGTERM, after SIGKILL, and without its state."""
    settings = Settings(
        kafka_bootstrap=kafka.bootstrap,
        topic_prefix="open.",
        data_dir=str(directory),
        joiner_port=choose_port(0),
    )
    await topics.apply(settings)
    async with joiner_process(settings) as joiner:
        await joiner.until_ready()
        empty_bytes = await joiner.settled_bytes()
        cpu_seconds = joiner.cpu_seconds()
        await fill_apart(settings, messages)
        await joiner.until_read(messages)
        join_cpu_us = (joiner.cpu_seconds() - cpu_seconds) * 1e6 / messages
        filled_bytes = await joiner.settled_bytes()
        filled_peak_bytes = joiner.peak_bytes
        began = time.monotonic()
        await joiner.end(kill=False)
        stop_seconds = time.monotonic() - began
    state = settings.state_dir / group_of(settings)
    disk_bytes = sum(path.stat().st_size for path in state.rglob("*") if path.is_file())
    after_sigterm = await restart(settings, messages, 0)
    after_sigkill = await restart(settings, messages, 1)
    for partition in range(settings.partitions):  # and not the instance id: the member is the same
        shutil.rmtree(state / str(partition))
    without_state = await restart(settings, messages, 2)
    return Figures(
        messages,
        empty_bytes,
        filled_bytes,
        filled_peak_bytes,
        disk_bytes,
        join_cpu_us,
        stop_seconds,
        after_sigterm,
        after_sigkill,
        without_state,
    )


async def fill_apart(settings: Settings, messages: int) -> None:
    """In a process of its own: as the edge, it is not the joiner's."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.open_messages", "fill", str(messages),
        env={**os.environ, **to_environment(settings)},
    )  # fmt: skip
    assert await asyncio.wait_for(process.wait(), JOIN_SECONDS) == 0


async def restart(settings: Settings, messages: int, number: int) -> Restart:
    """Start a joiner for which an event of message ``number`` waits; leave it by SIGKILL."""
    clients = KafkaClients(settings)
    message_id = next(message_ids(number, messages))
    body = status_body(message_id, "delivered", 4)
    await produce(clients, settings, [(STATUSES, message_id, body)])
    async with joiner_process(settings) as joiner:
        began = time.monotonic()
        output = asyncio.create_task(_first_output(clients, settings))
        await joiner.until_ready()
        seconds_to_ready = time.monotonic() - began
        seconds_to_output = await asyncio.wait_for(output, START_SECONDS) - began
        settled_bytes = await joiner.settled_bytes()
        await joiner.end(kill=True)
    return Restart(settled_bytes, joiner.peak_bytes, seconds_to_ready, seconds_to_output)


async def _first_output(clients: KafkaClients, settings: Settings) -> float:
    """When the first lifecycle from now on can be read."""
    reader = clients.reader()
    outputs = partitions_of(settings, LIFECYCLES)
    reader.assign(outputs)
    await reader.start()
    try:
        for tp, end in (await reader.end_offsets(outputs)).items():
            reader.seek(tp, end)
        while not await reader.getmany(timeout_ms=500):
            pass
        return time.monotonic()
    finally:
        await reader.stop()


def show(console: Console, figures: Figures) -> None:
    table = Table(title=f"{figures.messages:,} open messages in one joiner")
    for column in ("", "MB settled", "MB peak", "bytes a message", "ready s", "first output s"):
        table.add_column(column, justify="right")
    for what, settled, peak, *seconds in (
        ("empty", figures.empty_bytes, figures.empty_bytes),
        ("joined", figures.filled_bytes, figures.filled_peak_bytes),
        ("after SIGTERM", *msgspec.structs.astuple(figures.after_sigterm)),
        ("after SIGKILL", *msgspec.structs.astuple(figures.after_sigkill)),
        ("without its state", *msgspec.structs.astuple(figures.without_state)),
    ):
        table.add_row(
            what,
            f"{settled / MEGABYTE:.0f}",
            f"{peak / MEGABYTE:.0f}",
            f"{figures.bytes_a_message(settled):.0f}",
            *(f"{value:.1f}" for value in seconds),
        )
    console.print(table)
    console.print(
        f"{figures.disk_bytes / figures.messages:.0f} bytes of disk a message; joined with "
        f"{figures.join_cpu_us:.0f} us of CPU each; stopped in {figures.stop_seconds:.1f} s; "
        f"{figures.restored_a_second:,.0f} restored a s"
    )


async def measure_apart() -> Figures:
    """With a Kafka of its own: a million messages more than others would want to carry."""
    with tempfile.TemporaryDirectory() as directory:
        kafka = await LocalKafka.start(Path(directory) / "kafka", heap_megabytes=1024)
        try:
            return await measure(kafka, Path(directory) / "data", MESSAGES)
        finally:
            await kafka.stop()


async def main(arguments: list[str]) -> None:
    if arguments[:1] == ["fill"]:
        settings = from_environment(os.environ)
        await produce(KafkaClients(settings), settings, submitted(int(arguments[1])))
        return
    show(Console(), await measure_apart())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
