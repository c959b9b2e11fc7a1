"""How soon a webhook that was answered 200 is a lifecycle, a row and a figure, under load.

    python -m bench.visible [--quick]                       (Kafka and PostgreSQL of its own)
    python -m bench.visible load RATE SECONDS FIRST FILE    (settings from the environment)

Every process as it is deployed, Kafka and PostgreSQL (with fsync) on the same machine. First the
highest rate that is held: rising steps, each webhook sent at its own time whether or not others
were answered, until one is not answered 200 within the edge's budget or rows stay behind. Then half
of that rate. Messages in even distances have a sender of their own, so each is found by itself: as
a record for a read_committed reader, as a row, and as a series of /metrics. Rows and figures are
looked for every 50 ms, so their times are that much too long at most; Prometheus' own scrape
interval comes on top of a figure's.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.load import CONNECTIONS, answer, message_id, request
from schemas.codec import encode
from schemas.metrics import SENDER_MESSAGES
from schemas.topics import LIFECYCLES
from sendtrace.local.kafka import LocalKafka
from sendtrace.local.postgres import LocalPostgres
from sendtrace.local.process import choose_port
from sendtrace.local.scrape import wait_ready
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import KafkaClients, partitions_of
from sendtrace.runtime.settings import Settings, from_environment, to_environment
from sinks.migrate import migrate

PROCESSES = ("edge", "joiner", "rollup", "loader", "exporter")
RATES = (200, 300, 450, 675, 1_000, 1_500, 2_250, 3_400, 5_000, 7_500)
GOAL_SECONDS = 2.0
# A sender of its own for every 20th of a second: 10,000 label sets would be the joiner's limit.
SAMPLES_A_SECOND = 20
LOOK_SECONDS = 0.05
START_SECONDS = 60.0
# Longer than any message may take here.
VISIBLE_SECONDS = 60.0
# Rows may be this much of the rate behind at the end of a step, and have grown by so much since its
# middle.
BEHIND_LIMIT_SECONDS = 2.0
GROWTH_LIMIT_SECONDS = 0.5
# At the end of a step webhooks may be answered this long after their time.
LATE_LIMIT_SECONDS = 0.5


class Plan(Struct, frozen=True):
    step_seconds: float
    seconds: float  # at half of the highest rate


FULL = Plan(step_seconds=10, seconds=30)
QUICK = Plan(step_seconds=3, seconds=8)


class Load(Struct, frozen=True):
    """What the client saw, on the machine's monotonic clock."""

    rate: float
    began_at: float
    others: int  # answers that are not 200
    answered_at: list[float]

    def late_seconds(self) -> list[float]:
        """From when each webhook was due to its answer: who waits for a connection waits too."""
        return [at - self.began_at - n / self.rate for n, at in enumerate(self.answered_at)]


class Step(Struct, frozen=True):
    rate: int
    is_held: bool
    slowest_seconds: float
    last_seconds: float  # of the last tenth of the webhooks, the median
    behind_seconds: float  # rows, at the end


class Figures(Struct, frozen=True):
    steps: list[Step]
    rate: float  # half of the highest that was held
    busy_before: float  # the machine's load per core, before the stack
    busy: float  # the same at the end, the stack's own in it
    lifecycle_seconds: list[float]
    row_seconds: list[float]
    figure_seconds: list[float]

    @property
    def held(self) -> int:
        return max((step.rate for step in self.steps if step.is_held), default=0)


def sender(number: int) -> str:
    """A sender that no other message has."""
    return f"Sample{number}"


def distance(rate: float) -> int:
    """Each how-manyth message is one that is looked for."""
    return max(1, round(rate / SAMPLES_A_SECOND))


# The client


async def post(port: int, rate: float, seconds: float, first: int) -> Load:
    """Each webhook at its time; late ones are not left out."""
    answered_at = [0.0] * int(rate * seconds)
    others = 0
    began = time.monotonic() + 0.2

    async def connection(index: int) -> None:
        nonlocal others
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for at in range(index, len(answered_at), CONNECTIONS):
            await asyncio.sleep(max(0.0, began + at / rate - time.monotonic()))
            number = first + at
            is_sample = at % distance(rate) == 0
            writer.write(request(number, sender(number)) if is_sample else request(number))
            others += await answer(reader) != "200"
            answered_at[at] = time.monotonic()
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(seconds + VISIBLE_SECONDS), asyncio.TaskGroup() as group:
        for index in range(CONNECTIONS):
            group.create_task(connection(index))
    return Load(rate, began, others, answered_at)


async def post_apart(settings: Settings, rate: float, seconds: float, first: int) -> Load:
    """In a process of its own, as Vonage is."""
    file = Path(settings.data_dir) / f"load-{first}.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.visible", "load", str(rate), str(seconds), str(first),
        str(file), env={**os.environ, **to_environment(settings)},
    )  # fmt: skip
    assert await asyncio.wait_for(process.wait(), seconds + 2 * VISIBLE_SECONDS) == 0
    return msgspec.json.decode(file.read_bytes(), type=Load)


# The stack


@asynccontextmanager
async def stack(directory: Path) -> AsyncIterator[Settings]:
    """Servers and processes, ready; nothing is left of them."""
    kafka = await LocalKafka.start(directory / "kafka", heap_megabytes=1024)
    postgres = await LocalPostgres.start(directory / "postgres")
    ports = {f"{name}_port": choose_port(0) for name in (*PROCESSES, "edge_internal")}
    given = Settings(
        kafka_bootstrap=kafka.bootstrap,
        postgres_dsn=postgres.dsn,
        topic_prefix="visible.",
        data_dir=str(directory),
        edge_drain_seconds=0.0,
    )
    settings = msgspec.structs.replace(given, **ports)
    await topics.apply(settings)
    await migrate(settings.postgres_dsn)
    environment = {**os.environ, **to_environment(settings)}
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sendtrace", name, env=environment
        )
        for name in PROCESSES
    ]
    try:
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
            for name in PROCESSES:
                await wait_ready(http, settings.port("edge_internal" if name == "edge" else name))
        yield settings
    finally:
        for process in running:
            process.terminate()
        await asyncio.gather(*(asyncio.wait_for(process.wait(), 30) for process in running))
        await postgres.stop()
        await kafka.stop()


# The highest rate


async def step(
    settings: Settings, database: asyncpg.Connection, rate: int, seconds: float, first: int
) -> Step:
    """Post for a while, and see how far behind rows are halfway and at the end."""
    posting = asyncio.create_task(post_apart(settings, rate, seconds, first))
    rows_at: list[tuple[float, int]] = []
    while not posting.done():
        rows_at.append((time.monotonic(), await _rows(database, first)))
        await asyncio.wait([posting], timeout=0.2)
    load = posting.result()
    ended = max(load.answered_at)
    halfway = ended - seconds / 2
    before, behind = (_behind_seconds(load, rows_at, at) for at in (halfway, ended))
    late = load.late_seconds()
    last = percentile(sorted(late[-len(late) // 10 :]), 0.5)
    is_held = (
        load.others == 0
        and max(late) <= settings.edge_budget_seconds
        and last <= LATE_LIMIT_SECONDS
        and behind <= min(BEHIND_LIMIT_SECONDS, before + GROWTH_LIMIT_SECONDS)
    )
    await _until_there(database, first, len(load.answered_at))
    return Step(rate, is_held, max(late), last, behind)


async def _rows(database: asyncpg.Connection, first: int) -> int:
    """Ids go up, so those of a step are the ones from its first on."""
    query = "select count(*) from messages where message_id >= $1"
    return int(await database.fetchval(query, message_id(first)))


def _behind_seconds(load: Load, rows_at: Sequence[tuple[float, int]], at: float) -> float:
    """Messages that were answered and are no rows at the last look before, as time of the rate."""
    looked_at, rows = max((look for look in rows_at if look[0] <= at), default=(at, 0))
    answered = sum(one <= looked_at for one in load.answered_at)
    return max(0, answered - rows) / load.rate


async def _until_there(database: asyncpg.Connection, first: int, messages: int) -> None:
    async with asyncio.timeout(2 * VISIBLE_SECONDS):
        while await _rows(database, first) < messages:
            await asyncio.sleep(0.2)


# From the answer on


async def watch_lifecycles(settings: Settings, wanted: set[str], seen: dict[str, float]) -> None:
    """When a reader of what is committed gets each message."""
    reader = KafkaClients(settings).reader()
    outputs = partitions_of(settings, LIFECYCLES)
    reader.assign(outputs)
    await reader.start()
    try:
        for tp, end in (await reader.end_offsets(outputs)).items():
            reader.seek(tp, end)
        while wanted - seen.keys():
            batches = await reader.getmany(timeout_ms=500)
            now = time.monotonic()
            for records in batches.values():
                for record in records:
                    key = (record.key or b"").decode()
                    if key in wanted:
                        seen.setdefault(key, now)
    finally:
        await reader.stop()


async def watch_rows(
    database: asyncpg.Connection, wanted: set[str], seen: dict[str, float]
) -> None:
    query = "select message_id from messages where message_id = any($1)"
    while missing := wanted - seen.keys():
        found = [row[0] for row in await database.fetch(query, list(missing))]
        seen.update(dict.fromkeys(found, time.monotonic()))
        await asyncio.sleep(LOOK_SECONDS)


async def watch_figures(settings: Settings, wanted: set[str], seen: dict[str, float]) -> None:
    """When each sender's series is on the exporter's page."""
    begin = f"sendtrace_{SENDER_MESSAGES.name}_total{{"
    url = f"http://127.0.0.1:{settings.port('exporter')}/metrics"
    async with aiohttp.ClientSession() as http:
        while wanted - seen.keys():
            async with http.get(url) as response:
                page = await response.text()
            now = time.monotonic()
            for line in page.splitlines():
                if line.startswith(begin):
                    name = line.partition('sender="')[2].partition('"')[0]
                    if name in wanted:
                        seen.setdefault(name, now)
            await asyncio.sleep(LOOK_SECONDS)


async def visible(
    settings: Settings, database: asyncpg.Connection, rate: float, seconds: float, first: int
) -> tuple[list[float], list[float], list[float]]:
    """Seconds from the answer to lifecycle, row and figure, each sorted."""
    samples = range(first, first + int(rate * seconds), distance(rate))
    ids, senders = set(map(message_id, samples)), set(map(sender, samples))
    lifecycles: dict[str, float] = {}
    rows: dict[str, float] = {}
    series: dict[str, float] = {}
    async with asyncio.timeout(seconds + 2 * VISIBLE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(watch_lifecycles(settings, ids, lifecycles))
        group.create_task(watch_rows(database, ids, rows))
        group.create_task(watch_figures(settings, senders, series))
        posting = group.create_task(post_apart(settings, rate, seconds, first))
    load = posting.result()
    assert load.others == 0, f"{load.others} answers were not 200"

    def since(seen: dict[str, float], name: Callable[[int], str]) -> list[float]:
        return sorted(seen[name(n)] - load.answered_at[n - first] for n in samples)

    return since(lifecycles, message_id), since(rows, message_id), since(series, sender)


async def measure(console: Console, plan: Plan) -> Figures:
    busy_before = load_per_core()
    with tempfile.TemporaryDirectory() as directory:
        async with stack(Path(directory)) as settings:
            database = await asyncpg.connect(settings.postgres_dsn)
            try:
                return await _measured(console, settings, database, plan, busy_before)
            finally:
                await database.close()


async def _measured(
    console: Console,
    settings: Settings,
    database: asyncpg.Connection,
    plan: Plan,
    busy_before: float,
) -> Figures:
    first = 0
    await step(settings, database, RATES[0], 2, first)  # what is slow once
    steps: list[Step] = []
    for rate in RATES:
        first += 1_000_000
        steps.append(await step(settings, database, rate, plan.step_seconds, first))
        console.print(told(steps[-1]), soft_wrap=True)
        if not steps[-1].is_held:
            break
    half = max((one.rate for one in steps if one.is_held), default=RATES[0]) / 2
    first += 1_000_000
    found = await visible(settings, database, half, plan.seconds, first)
    return Figures(steps, half, busy_before, load_per_core(), *found)


def load_per_core() -> float:
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def percentile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def told(one: Step) -> str:
    return (
        f"{one.rate:,} webhooks/s {'held' if one.is_held else 'not held'}: slowest answer "
        f"{one.slowest_seconds:.2f} s, at the end {one.last_seconds:.2f} s, rows "
        f"{one.behind_seconds:.2f} s behind"
    )


def show(console: Console, figures: Figures) -> None:
    table = Table(
        title=f"from 200 on, at {figures.rate:,.0f} webhooks/s: half of the highest rate held "
        f"({figures.held:,}); load a core {figures.busy_before:.1f} before, "
        f"{figures.busy:.1f} after"
    )
    for column in ("seconds until", "samples", "p50", "p99", "goal for p99"):
        table.add_column(column, justify="right")
    for what, values in (
        ("lifecycle", figures.lifecycle_seconds),
        ("row", figures.row_seconds),
        ("figure", figures.figure_seconds),
    ):
        p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
        goal = f"< {GOAL_SECONDS:.0f}: {'met' if p99 < GOAL_SECONDS else 'missed'}"
        table.add_row(what, str(len(values)), f"{p50:.2f}", f"{p99:.2f}", goal)
    console.print(table)


async def main(arguments: list[str]) -> None:
    if arguments[:1] == ["load"]:
        rate, seconds, first, file = arguments[1:]
        port = from_environment(os.environ).port("edge")
        load = await post(port, float(rate), float(seconds), int(first))
        await asyncio.to_thread(Path(file).write_bytes, encode(load))
        return
    console = Console()
    show(console, await measure(console, QUICK if "--quick" in arguments else FULL))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
