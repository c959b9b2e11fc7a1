"""Each fault once, against a live stack under traffic: it is seen while it lasts, and heals.

What must hold afterwards (nothing lost, nothing twice) is not asked here but by those who use the
faults. Here a fault that does nothing, or one that does not end, is found.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from processors.aside import REROUTED
from processors.wiring import JOINER, group_of
from schemas.topics import RECEIPTS, SENDS, STATUSES, partition_of
from sendtrace.runtime.kafka import KafkaClients, Record
from sendtrace.runtime.settings import Settings

from chaos.driving import done_to, flows, until
from chaos.faults import (
    CUT,
    CUT_HALF_WAY,
    DELAYED,
    STALLED,
    Away,
    BadWeather,
    Killed,
    KilledDuringScrape,
    OffsetsDeleted,
    OffsetsMoved,
    RollingRestart,
    StateCorrupted,
    StateDropped,
    Suspended,
    flip,
)
from chaos.observing import Before, is_seen
from chaos.processes import PIPELINE
from chaos.stack import POSTGRES, SIMULATOR, LocalStack, running_stack, state_dir
from chaos.strays import OtherPartitioner, Oversize, Poison

RATE = 30
BROKER = "kafka-1"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """One broker, three partitions, the simulator at 30 messages a second."""
    directory = tmp_path_factory.mktemp("stack")
    settings = Settings(
        partitions=3,
        session_timeout_ms=6_000,
        transaction_timeout_ms=5_000,
        transaction_interval_ms=50,
        edge_drain_seconds=0.0,
    )
    async with running_stack(directory, settings) as started:
        ledger = directory / "ledger.jsonl"
        await started.processes.start(
            SIMULATOR, "--rate", str(RATE), "--ledger", str(ledger), "--seed", "11"
        )
        await flows(started)  # the simulator refuses to start without an edge
        yield started


async def is_ready(stack: LocalStack, part: str) -> bool:
    port = stack.settings.port("edge_internal" if part == "edge" else part)
    try:
        timeout = aiohttp.ClientTimeout(total=1)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"http://127.0.0.1:{port}/readyz") as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def records(settings: Settings, topic: str, partition: int) -> list[Record]:
    """All of a partition as it is now."""
    consumer = KafkaClients(settings).reader()
    await consumer.start()
    try:
        place = TopicPartition(settings.topic(topic), partition)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        found: list[Record] = []
        while await consumer.position(place) < end:
            found += (await consumer.getmany(timeout_ms=500)).get(place, [])
        return found
    finally:
        await consumer.stop()


@pytest.mark.parametrize("part", [*PIPELINE, BROKER, POSTGRES])
async def test_a_kill(stack: LocalStack, part: str) -> None:
    pid = stack.pid(part)
    async with done_to(stack, Killed((part,))):
        assert not stack.is_alive(part)
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert stack.is_alive(part)
    assert stack.pid(part) != pid
    await flows(stack)


@pytest.mark.parametrize("part", ["exporter", BROKER, POSTGRES])
async def test_what_had_ended_by_itself_is_not_killed(stack: LocalStack, part: str) -> None:
    await stack.stop(part)
    with pytest.raises(psutil.NoSuchProcess):
        await stack.kill(part)
    await stack.start(part)
    await flows(stack)


@pytest.mark.parametrize("part", ["edge", POSTGRES])
async def test_away(stack: LocalStack, part: str) -> None:
    async with done_to(stack, Away((part,))):
        assert not stack.is_alive(part)
    await flows(stack)


@pytest.mark.parametrize("part", ["joiner", BROKER, POSTGRES])
async def test_suspended(stack: LocalStack, part: str) -> None:
    async with done_to(stack, Suspended(part)):
        process = psutil.Process(stack.pid(part))
        assert process.status() == psutil.STATUS_STOPPED
        # A backend that ended just before is not waited for by a postmaster that stands still.
        still = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
        assert {each.status() for each in process.children(recursive=True)} <= still
        await asyncio.sleep(0.5)
    assert process.status() != psutil.STATUS_STOPPED
    await flows(stack)


def test_a_suspension_past_the_timeouts_is_longer_than_each() -> None:
    settings = Settings(session_timeout_ms=15_000, transaction_timeout_ms=20_000)
    assert Suspended.past_timeouts("joiner", settings).hold_seconds > 30


async def test_a_rolling_restart(stack: LocalStack) -> None:
    parts = ("joiner", "rollup")
    before = {part: stack.pid(part) for part in stack.parts}
    async with done_to(stack, RollingRestart(parts)):
        changed = {part for part in stack.parts if stack.pid(part) != before[part]}
        assert changed == set(parts)
    await flows(stack)


@pytest.mark.parametrize("link", [BROKER, POSTGRES, "edge"])
@pytest.mark.parametrize("weather", [CUT, CUT_HALF_WAY], ids=["cut", "half-way"])
async def test_connections_cut(stack: LocalStack, link: str, weather: object) -> None:
    proxy = stack.links[link]
    cuts = proxy.cuts

    async def is_cut() -> bool:
        return proxy.cuts > cuts

    async with done_to(stack, BadWeather(link, weather)):  # type: ignore[arg-type]
        await until(is_cut, f"a cut of {link}")
    await flows(stack)


@pytest.mark.parametrize("link", [BROKER, POSTGRES, "edge"])
async def test_connections_stalled(stack: LocalStack, link: str) -> None:
    proxy = stack.links[link]

    async def is_silent() -> bool:  # after what was on its way
        passed = proxy.passed_bytes
        await asyncio.sleep(0.5)
        return proxy.passed_bytes == passed

    async with done_to(stack, BadWeather(link, STALLED)):
        await until(is_silent, f"silence of {link}")
        passed = proxy.passed_bytes
    await flows(stack)
    assert proxy.passed_bytes > passed


async def test_connections_delayed(stack: LocalStack) -> None:
    async def seconds() -> float:
        """Of the quickest of some: on a busy machine any one may take long."""
        return min([await of_one() for _ in range(5)])

    async def of_one() -> float:
        began = time.monotonic()
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{stack.links['edge_internal'].port}/livez"
            await (await http.get(url)).read()
        return time.monotonic() - began

    assert await seconds() < 2 * DELAYED.delay_seconds
    async with done_to(stack, BadWeather("edge_internal", DELAYED)):
        assert await seconds() >= 2 * DELAYED.delay_seconds  # there and back


async def test_state_dropped(stack: LocalStack) -> None:
    directory = state_dir(stack.settings, "joiner")
    assert list(directory.glob("*/CURRENT"))
    async with done_to(stack, StateDropped("joiner")):
        assert not directory.exists()
    assert list(directory.glob("*/CURRENT"))
    await flows(stack)


def identity(store: Path) -> str:
    """Of a RocksDB since it was made; empty while there is none.

    Names and inodes of its files say nothing: one that is made anew may have the same.
    """
    try:
        return (store / "IDENTITY").read_text()
    except FileNotFoundError:
        return ""


async def test_state_corrupted(stack: LocalStack) -> None:
    directory = state_dir(stack.settings, "joiner")
    fault = StateCorrupted("joiner")
    async with done_to(stack, fault):
        damaged = {table.parent: identity(table.parent) for table in directory.glob("*/*.sst")}
        assert damaged

    async def are_made_anew() -> bool:
        assert stack.is_alive("joiner")  # since it was healed
        return all(identity(store) not in ("", before) for store, before in damaged.items())

    await until(are_made_anew, "each damaged store dropped")
    await flows(stack)


def test_a_flip_changes_sixteen_bytes_and_flips_back(tmp_path: Path) -> None:
    path = tmp_path / "000001.sst"
    path.write_bytes(bytes(range(100)))
    flip(path)
    damaged = path.read_bytes()
    assert sum(a != b for a, b in zip(damaged, bytes(range(100)), strict=True)) == 16
    flip(path)
    assert path.read_bytes() == bytes(range(100))


async def offsets(stack: LocalStack) -> dict[TopicPartition, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.settings.kafka_bootstrap)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group_of(stack.settings, JOINER))
        return {place: entry.offset for place, entry in found.items()}
    finally:
        await admin.close()


async def test_offsets_moved(stack: LocalStack) -> None:
    assert sum((await offsets(stack)).values()) > 0
    before, fault = Before.of(stack), OffsetsMoved("joiner")
    async with done_to(stack, Killed(("joiner",))):
        assert not await is_seen(stack, fault, before)
        assert not await is_seen(stack, OffsetsDeleted("joiner"), before)
    async with done_to(stack, fault):
        assert await is_seen(stack, fault, before)
        found = await offsets(stack)
        assert len(found) == 3 * len(JOINER.inputs)
        assert set(found.values()) == {0}
    await flows(stack)


async def test_offsets_deleted(stack: LocalStack) -> None:
    fault = OffsetsDeleted("joiner")
    async with done_to(stack, fault):
        assert await is_seen(stack, fault, Before.of(stack))
        assert await offsets(stack) == {}
    await flows(stack)
    assert sum((await offsets(stack)).values()) > 0


@pytest.mark.parametrize("topic", [SENDS, STATUSES, RECEIPTS])
async def test_poison_and_oversize(stack: LocalStack, topic: str) -> None:
    before, poison, oversize = Before.of(stack), Poison(topic), Oversize(topic)
    async with done_to(stack, poison), done_to(stack, oversize):
        written = await records(stack.settings, topic, 0)
        assert b"null" in [record.value for record in written]
        assert max(len(record.value or b"") for record in written) > 2_000_000
        assert await is_seen(stack, poison, before)
        assert await is_seen(stack, oversize, before)
    await flows(stack)


async def test_another_partitioner(stack: LocalStack) -> None:
    fault = OtherPartitioner(stack.settings, count=1)
    [key] = [stray.key for stray in fault.strays]
    assert key is not None
    async with done_to(stack, fault):
        assert key in [r.key for r in await records(stack.settings, STATUSES, 0)]

    async def is_rerouted() -> bool:
        home = partition_of(key, stack.settings.partitions)
        return any(
            r.key == key and any(name == REROUTED for name, _ in r.headers)
            for r in await records(stack.settings, STATUSES, home)
        )

    await until(is_rerouted, "the record where it belongs")


async def test_the_exporter_killed_during_a_scrape(stack: LocalStack) -> None:
    async with done_to(stack, KilledDuringScrape()):
        assert not stack.is_alive("exporter")
    assert await is_ready(stack, "exporter")
