"""Whether a fault did to the stack what it says: asked while it lasts, from outside.

A fault that nobody saw proves nothing, so the report counts injected and observed apart.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
import asyncpg
import psutil
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families

from processors.store import RocksStore
from processors.wiring import group_of
from schemas.codec import header
from schemas.topics import QUARANTINE
from sendtrace.runtime.kafka import KafkaClients, partitions_of
from sendtrace.runtime.quarantine import KEPT_LIMIT_BYTES
from sendtrace.runtime.reading import open_reader, read_until

from chaos.faults import (
    Away,
    BadWeather,
    DiskFull,
    Fault,
    Killed,
    KilledDuringScrape,
    KilledInWeather,
    MembersAdded,
    OffsetsDeleted,
    OffsetsMoved,
    OneAwayThenTwo,
    RollingRestart,
    StateCorrupted,
    StateDropped,
    StateOutdated,
    Suspended,
    SuspendedInWeather,
    TakenOver,
    stores,
)
from chaos.stack import STAGES, Stack, state_dir
from chaos.strays import OtherPartitioner, Oversize, Poison

# A cut is seen with the next bytes, and a process may be quiet for a while.
SEEN_SECONDS = 20.0
SILENCE_SECONDS = 0.3
# A segment of PostgreSQL's log. Who found the disk full may have removed what it had begun.
ROOM_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Before:
    """The stack as it was before a fault."""

    pids: dict[str, int]
    cuts: dict[str, int]
    held: dict[str, int]

    @classmethod
    def of(cls, stack: Stack) -> Before:
        return cls(
            {part: stack.pid(part) for part in stack.parts},
            {name: link.cuts for name, link in stack.links.items()},
            {name: link.held for name, link in stack.links.items()},
        )


def kills(fault: Fault) -> tuple[str, ...]:
    """The parts that get SIGKILL."""
    match fault:
        case Killed(parts):
            return parts
        case KilledInWeather(part=part) | KilledDuringScrape(part=part):
            return (part,)
        case StateDropped(part) | StateCorrupted(part) | OffsetsMoved(part) | StateOutdated(part):
            return (part,)
        case OneAwayThenTwo(second=second):
            return (second,)
        case TakenOver(part=part):
            return (f"spare {part}",)
        case MembersAdded(part=part):
            return (f"spare {part}",)
    return ()


async def is_seen(stack: Stack, fault: Fault, before: Before) -> bool:
    """Ask after ``inject``, before ``heal``."""
    match fault:
        case Killed(parts) | Away(parts):
            return not any(stack.is_alive(part) for part in parts)
        case KilledInWeather(part=part) | KilledDuringScrape(part=part):
            return not stack.is_alive(part)
        case StateCorrupted(part):
            return not stack.is_alive(part)
        case OffsetsMoved(part):
            return not stack.is_alive(part) and set(await _offsets(stack, part)) == {0}
        case OffsetsDeleted(part):
            return not stack.is_alive(part) and await _offsets(stack, part) == []
        case OneAwayThenTwo(first, second):
            return not (stack.is_alive(first) or stack.is_alive(second))
        case StateOutdated(part, age_ms):
            return not stack.is_alive(part) and _youngest_ms(stack, part) >= age_ms
        case MembersAdded(part, count):
            return await _have_work(stack, part, count)
        case DiskFull():
            disk = os.statvfs(fault.filler(stack))
            return disk.f_bavail * disk.f_frsize < ROOM_BYTES
        case OtherPartitioner(ids=ids):
            return await _are_rows(stack, ids)
        case Poison(topic) | Oversize(topic):
            return await _is_quarantined(stack, topic, [stray.value for stray in fault.strays])
        case StateDropped(part):
            return not state_dir(stack.settings, part).exists()
        case Suspended(part=part) | SuspendedInWeather(part=part):
            return await _is_stopped(stack.pid(part))
        case RollingRestart(parts):
            return all(stack.pid(part) != before.pids[part] for part in parts)
        case BadWeather():
            return await _is_weather_seen(stack, fault, before)
    raise AssertionError(f"nobody says how {fault.name!r} is seen")


async def _seen_in_time(is_there: Callable[[], Awaitable[bool]]) -> bool:
    deadline = time.monotonic() + SEEN_SECONDS
    while not (found := await is_there()) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    return found


def _youngest_ms(stack: Stack, part: str) -> int:
    """For how long the part has read none of its states to the end."""
    last_ms = 0
    for path in stores(stack, part):
        store = RocksStore(path)
        last_ms = max(last_ms, store.meta.caught_up_at_ms)
        store.close()
    return time.time_ns() // 1_000_000 - last_ms


async def _offsets(stack: Stack, part: str) -> list[int]:
    """What its group has committed, of all partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.settings.kafka_bootstrap)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group_of(stack.settings, STAGES[part]))
        return [each.offset for each in found.values()]
    finally:
        await admin.close()


async def _have_work(stack: Stack, part: str, count: int) -> bool:
    """Each of the spares has read records of its own."""

    async def have_read() -> bool:
        pages = [await _page(stack.spare_port(part, number)) for number in range(1, 1 + count)]
        return all(_value(page, "sendtrace_loop_records") > 0 for page in pages)

    return await _seen_in_time(have_read)


async def _are_rows(stack: Stack, ids: Sequence[str]) -> bool:
    async def are_there() -> bool:
        database = await asyncpg.connect(stack.settings.postgres_dsn, timeout=5)
        try:
            query = "select count(*) from messages where message_id = any($1)"
            return await database.fetchval(query, list(ids)) == len(ids)
        finally:
            await database.close()

    return await _seen_in_time(are_there)


async def _is_quarantined(stack: Stack, topic: str, values: Sequence[bytes | None]) -> bool:
    """Whoever reads partition 0 of the topic put them into a partition of its choice.

    Of what is too large to be written once more there is no value (the accounting asks for each).
    """
    wanted = Counter(None if len(v or b"") > KEPT_LIMIT_BYTES else v for v in values)
    clients = KafkaClients(stack.settings)
    partitions = partitions_of(stack.settings, QUARANTINE)

    async def are_there() -> bool:
        found: Counter[bytes | None] = Counter()
        async with open_reader(clients, partitions) as reader:
            async for _, records in read_until(reader, await reader.end_offsets(partitions)):
                for record in records:
                    if (header(record.headers, "st_origin") or "").startswith(f"{topic}-0-"):
                        found[record.value] += 1
        return all(found[value] >= times for value, times in wanted.items())

    return await _seen_in_time(are_there)


async def _is_stopped(pid: int) -> bool:
    """A process that has no turn on a loaded machine stops with its next one."""
    deadline = time.monotonic() + SEEN_SECONDS
    while is_running := psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    return not is_running


async def _is_weather_seen(stack: Stack, fault: BadWeather, before: Before) -> bool:
    """Somebody must have met it: a link that nobody uses is silent in any weather."""
    link, deadline = stack.links[fault.link], time.monotonic() + SEEN_SECONDS
    passed = link.passed_bytes
    while time.monotonic() < deadline:
        await asyncio.sleep(SILENCE_SECONDS)
        before_passed, passed = passed, link.passed_bytes
        if fault.weather.is_stalled:
            # What was on its way when it stalled still passes.
            is_there = link.held > before.held[fault.link] and passed == before_passed
        elif fault.weather.cut_after_bytes is not None:
            is_there = link.cuts > before.cuts[fault.link]
        else:
            is_there = link.held > before.held[fault.link] and passed > before_passed
        if is_there:
            return True
    return False


async def recoveries(stack: Stack) -> dict[tuple[str, int], int]:
    """By process, how often it restored a task. Without those that do not answer."""
    counts = {}
    for part in STAGES:
        page = await _page(stack.settings.port(part))
        if page is not None:
            counts[part, stack.pid(part)] = int(_value(page, "sendtrace_loop_recoveries"))
    return counts


async def _page(port: int) -> str | None:
    """`/metrics` of a process. None: it does not answer."""
    try:
        timeout = aiohttp.ClientTimeout(total=3)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"http://127.0.0.1:{port}/metrics") as answer,
        ):
            return await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return None


def _value(page: str | None, name: str) -> float:
    for family in text_string_to_metric_families(page or ""):
        if family.name == name:
            return float(sum(sample.value for sample in family.samples[:1]))
    return 0.0
