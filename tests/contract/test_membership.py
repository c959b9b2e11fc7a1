"""Static members: a stop for good tells the group, any other stop does not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiokafka.errors import GroupAuthorizationFailedError, UnknownMemberIdError

from processors.wiring import group_of
from sendtrace.local.process import choose_port
from sendtrace.runtime.leave import LeaveGroupResponse_v3, refuse_errors
from sendtrace.runtime.settings import Settings, to_environment

from engine import Traffic, produce, running_joiner, until_joined
from fakes.cluster import Cluster, KafkaCluster

# Long enough for a rebalance on a busy machine, and well under the session timeout.
AT_ONCE_SECONDS = 12.0
SESSION_MS = 20_000
STILL_SECONDS = 3.0


@pytest.fixture
def cluster(cluster: Cluster, tmp_path: Path) -> Cluster:
    if not isinstance(cluster, KafkaCluster):
        return cluster
    settings = msgspec.structs.replace(cluster.settings, session_timeout_ms=SESSION_MS)
    return KafkaCluster(settings, tmp_path / "state")


class Events:
    """Statuses for all partitions; tells whether all that were ever produced are joined."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._produced = 0

    async def joined_within(self, seconds: float) -> bool:
        """Whether some more are, and all before them, within that time."""
        traffic = Traffic(10)  # the same ones each time: repeats are counted too
        await produce(self._cluster.clients, self._cluster.settings, traffic.records)
        self._produced += len(traffic.records)
        try:
            await until_joined(
                self._cluster.clients, self._cluster.settings, self._produced, seconds=seconds
            )
        except TimeoutError:
            return False
        return True


class Pair:
    """Two static joiners that share the partitions; the first one is then stopped."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._first = AsyncExitStack()
        self.events = Events(cluster)

    async def start_first(self) -> None:
        await self._first.enter_async_context(
            running_joiner(
                self.cluster.settings,
                self.cluster.clients,
                self.cluster.open_store,
                instance_id="first",
            )
        )

    async def stop_first(self) -> None:
        await self._first.aclose()


@asynccontextmanager
async def two_joiners(cluster: Cluster) -> AsyncIterator[Pair]:
    pair = Pair(cluster)
    await pair.start_first()
    try:
        assert await pair.events.joined_within(60)
        async with running_joiner(
            cluster.settings, cluster.clients, cluster.second_store, instance_id="second"
        ):
            assert await pair.events.joined_within(60)
            yield pair
    finally:
        await pair.stop_first()


async def test_who_leaves_for_good_is_replaced_at_once(cluster: Cluster) -> None:
    async with two_joiners(cluster) as pair:
        await pair.stop_first()
        await cluster.clients.leave_group(group_of(cluster.settings), "first")
        assert await pair.events.joined_within(AT_ONCE_SECONDS)


async def test_who_only_stops_is_waited_for(cluster: Cluster) -> None:
    """Its partitions stand still, and the others are undisturbed, until it is back."""
    async with two_joiners(cluster) as pair:
        await pair.stop_first()
        assert not await pair.events.joined_within(STILL_SECONDS)
        await pair.start_first()
        assert await pair.events.joined_within(AT_ONCE_SECONDS)


async def test_who_does_not_come_back_is_replaced_by_time_out(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    cluster = KafkaCluster(kafka_settings, tmp_path / "state")
    session_seconds = kafka_settings.session_timeout_ms / 1000
    async with two_joiners(cluster) as pair:
        await pair.stop_first()
        began = time.monotonic()
        assert await pair.events.joined_within(session_seconds + 60)
        assert time.monotonic() - began > session_seconds / 2


async def started_joiner(settings: Settings) -> asyncio.subprocess.Process:
    """The process itself, once it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "sendtrace", "joiner"),
        env={**os.environ, **to_environment(settings)},
    )
    async with asyncio.timeout(60), aiohttp.ClientSession() as http:
        while True:
            assert process.returncode is None
            try:
                async with http.get(f"http://127.0.0.1:{settings.joiner_port}/readyz") as answer:
                    if answer.status == 200:
                        return process
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("number", "left"), [(signal.SIGUSR2, True), (signal.SIGTERM, False)])
async def test_the_process_leaves_on_the_signal_that_says_so(
    kafka_settings: Settings, tmp_path: Path, number: signal.Signals, left: bool
) -> None:
    settings = msgspec.structs.replace(
        kafka_settings, joiner_port=choose_port(0), session_timeout_ms=SESSION_MS
    )
    cluster = KafkaCluster(settings, tmp_path / "state")
    events = Events(cluster)
    process = await started_joiner(settings)
    try:
        assert await events.joined_within(60)
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    began = time.monotonic()
    async with running_joiner(
        settings, cluster.clients, cluster.second_store, instance_id="second"
    ):
        assert await events.joined_within(60)
    assert (time.monotonic() - began < AT_ONCE_SECONDS) == left


async def test_who_has_left_may_leave_again(cluster: Cluster) -> None:
    async with two_joiners(cluster) as pair:
        await pair.stop_first()
        for _ in range(2):
            await cluster.clients.leave_group(group_of(cluster.settings), "first")
        assert await pair.events.joined_within(AT_ONCE_SECONDS)


def test_a_refused_leave_is_told() -> None:
    refuse_errors(LeaveGroupResponse_v3(0, 0, [("", "first", UnknownMemberIdError.errno)]))
    for code, of_member in ((GroupAuthorizationFailedError.errno, 0), (0, 30)):
        with pytest.raises(GroupAuthorizationFailedError):
            refuse_errors(LeaveGroupResponse_v3(0, code, [("", "first", of_member)]))
