"""A process that dies at any await point, again and again, makes what an undisturbed one makes."""

from __future__ import annotations

import gc
import itertools
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sendtrace.local.kafka import LocalKafka
from sendtrace.runtime import topics

from crash import StageUnderTest, Sweep, freeze, lane, points_of, refuse
from crash_stages import JOIN, ROLLUP, impatient, is_send, lose_send, memory, settings_of, spoil
from engine import ARRIVED_US
from fakes.cluster import Cluster, ImpatientClients, KafkaCluster, MemoryCluster

__all__ = ["impatient"]  # a fixture, for every test here

SEED = int(os.environ.get("TEST_FUZZ_SEED") or secrets.randbelow(2**32))
IS_FULL = os.environ.get("TEST_FUZZ") == "full"
TIMES_ON_KAFKA = 20 if IS_FULL else 1
LANES_ON_KAFKA = 10 if IS_FULL else 4  # side by side: most of a crash is waiting
TELL_SECONDS = 30.0


@pytest.fixture
def rng() -> random.Random:
    print(f"TEST_FUZZ_SEED={SEED}")
    return random.Random(SEED)


@pytest.fixture
def on_kafka(kafka: LocalKafka, tmp_path: Path) -> Callable[[], Awaitable[Cluster]]:
    """Clusters on real Kafka: each a topic prefix of its own."""
    numbers = itertools.count()

    async def make() -> Cluster:
        name = f"{tmp_path.name}-{next(numbers)}"
        settings = settings_of(
            kafka_bootstrap=kafka.bootstrap, topic_prefix=f"{name}.", session_timeout_ms=6_000
        )
        await topics.apply(settings)
        cluster = KafkaCluster(settings, tmp_path / name)
        cluster.clients = ImpatientClients(settings)
        return cluster

    return make


@pytest.fixture(params=[JOIN, ROLLUP], ids=lambda stage: stage.name)
def stage(request: pytest.FixtureRequest) -> StageUnderTest:
    found: StageUnderTest = request.param
    return found


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[str], None]]:
    """Says where a long test is, at most once in a while, and what it said last."""
    told_at, latest = time.monotonic(), ""

    def say(text: str) -> None:
        nonlocal told_at, latest
        latest = text
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            with capfd.disabled():
                print(f"\n{text}", end="", flush=True)

    yield say
    with capfd.disabled():
        print(f"\n{latest}", end=" ", flush=True)


async def test_what_comes_out_does_not_depend_on_when() -> None:
    """A sweep that goes on past a deadline of its traffic would compare outcomes of two times.

    The first deadline of a message is ten minutes and one of grace, unless settings say otherwise.
    """
    outcomes = []
    for later_ms in (0, 700_000):
        cluster = MemoryCluster(settings_of(topic_prefix="test."))
        cluster.log.now_ms = partial(int, ARRIVED_US // 1000 + later_ms)
        async with lane(cluster, JOIN) as own:
            for _ in range(80):  # pulses, one every 10 seconds
                await own.feed()
            await own.crash(None)
            outcomes.append(await own.outcome())
    assert outcomes[0] == outcomes[1]


@pytest.mark.timeout(600)
async def test_killed_20_times_at_each_await_point(
    stage: StageUnderTest, rng: random.Random
) -> None:
    points = await points_of(await memory(), stage)
    await Sweep(memory, stage, rng).run(points, times=20, crashes=8, lanes=4)


# Every single wait is bounded, by crash.LIMIT_SECONDS.
@pytest.mark.timeout(1_800)
# Who is killed while connecting leaves a connection that nobody knows of.
@pytest.mark.filterwarnings("ignore:Unclosed AIOKafkaConnection:ResourceWarning")
async def test_killed_at_each_await_point_on_kafka(
    on_kafka: Callable[[], Awaitable[Cluster]], rng: random.Random, tell: Callable[[str], None]
) -> None:
    points = await points_of(await memory(), JOIN)
    crashes = len(points) if IS_FULL else len(points) // LANES_ON_KAFKA + 1
    sweep = Sweep(on_kafka, JOIN, rng, tell=tell)
    await sweep.run(points, TIMES_ON_KAFKA, crashes, LANES_ON_KAFKA)
    gc.collect()  # so that they are collected here, where the warning is expected


async def test_refused_at_each_await_point(stage: StageUnderTest, rng: random.Random) -> None:
    """With the operation done, and not done."""
    points = await points_of(await memory(), stage)
    await Sweep(memory, stage, rng, refuse).run(points, times=1, crashes=6, lanes=4)


async def test_stopped_at_each_await_point_while_another_takes_over(
    stage: StageUnderTest, rng: random.Random
) -> None:
    """And going on as a zombie afterwards."""
    points = await points_of(await memory(), stage)
    await Sweep(memory, stage, rng, freeze).run(points, times=1, crashes=3, lanes=4)


async def test_a_send_that_fails_is_never_committed(
    stage: StageUnderTest, rng: random.Random
) -> None:
    """aiokafka commits a transaction although a send in it failed: only the future tells."""
    points = {p for p in await points_of(await memory(), stage) if is_send(p)}
    await Sweep(memory, stage, rng, lose_send).run(points, times=1, crashes=6, lanes=4)


async def test_a_producer_spoilt_between_two_sends_is_replaced(
    stage: StageUnderTest, rng: random.Random
) -> None:
    """aiokafka then says IllegalOperation, which is no KafkaError."""
    points = {p for p in await points_of(await memory(), stage) if is_send(p)}
    await Sweep(memory, stage, rng, spoil).run(points, times=1, crashes=6, lanes=4)
