"""The faults that take long, or a user namespace of the machine: seen, borne, and healed.

Full disks are tmpfs in a mount namespace of the process that has them. A machine that allows no
user namespaces fails here with a sentence; containers may need `--security-opt seccomp=unconfined`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from sendtrace.runtime.settings import Settings

from chaos.confined import NAMESPACE
from chaos.driving import done_to, flows, rows, until
from chaos.faults import Away, DiskFull, Killed, RollingRestart, Suspended
from chaos.observing import ROOM_BYTES
from chaos.stack import DATA, POSTGRES, SIMULATOR, LocalStack, running_stack

DISK_BYTES = {DATA: 96 * 2**20, POSTGRES: 192 * 2**20}
SETTINGS = Settings(
    partitions=3,
    session_timeout_ms=6_000,
    transaction_timeout_ms=5_000,
    transaction_interval_ms=50,
    edge_drain_seconds=0.0,
)


async def _with_traffic(stack: LocalStack, directory: Path) -> None:
    ledger = directory / "ledger.jsonl"
    await stack.processes.start(SIMULATOR, "--rate", "30", "--ledger", str(ledger), "--seed", "12")
    await flows(stack)


def _require_mounts() -> None:
    trial = subprocess.run(
        [*NAMESPACE, "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True
    )
    said = trial.stderr.decode()
    assert trial.returncode == 0, f"this machine allows no mounts in user namespaces: {said}"


@pytest.fixture(scope="module")
async def small_disks(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    _require_mounts()
    directory = tmp_path_factory.mktemp("disks")
    async with running_stack(directory, SETTINGS, disk_bytes=DISK_BYTES) as stack:
        await _with_traffic(stack, directory)
        yield stack


@pytest.mark.parametrize("part", ["joiner", POSTGRES])
async def test_a_full_disk(small_disks: LocalStack, part: str) -> None:
    stack = small_disks
    fault = DiskFull(part)
    async with done_to(stack, fault):
        room = os.statvfs(stack.disks[part])
        assert room.f_blocks * room.f_frsize == DISK_BYTES[POSTGRES if part == POSTGRES else DATA]
        # Who found it full may have removed what it had begun.
        assert room.f_bavail * room.f_frsize < ROOM_BYTES
        await asyncio.sleep(10)
        print(f"{part} lives with a full disk: {stack.is_alive(part)}")
    await flows(stack)


@pytest.fixture(scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """The stack on three brokers."""
    directory = tmp_path_factory.mktemp("three")
    async with running_stack(directory, SETTINGS, brokers=3) as stack:
        await _with_traffic(stack, directory)
        yield stack


@pytest.mark.parametrize("part", ["joiner", "rollup", "kafka-2", POSTGRES])
async def test_suspended_past_the_timeouts(three: LocalStack, part: str) -> None:
    fault = Suspended.past_timeouts(part, three.settings)
    async with done_to(three, fault):
        process = psutil.Process(three.pid(part))
        await asyncio.sleep(fault.hold_seconds)
        assert process.status() == psutil.STATUS_STOPPED
    await flows(three)


async def test_killed_on_a_small_disk_it_has_its_data_again(small_disks: LocalStack) -> None:
    before = await rows(small_disks)
    async with done_to(small_disks, Killed((POSTGRES,))):
        await asyncio.sleep(1)
        assert not small_disks.is_alive(POSTGRES)
    assert before > 0

    # What was committed a moment ago may be loaded once more: the loader's sessions do not wait
    # for the disk, for each row stands beside its position.
    async def has_its_data() -> bool:
        return await rows(small_disks) >= before

    await until(has_its_data, "the rows that were there")
    await flows(small_disks)


async def test_one_broker_away_is_hardly_noticed(three: LocalStack) -> None:
    async with done_to(three, Killed(("kafka-3",))):
        await flows(three)


async def test_two_brokers_away_stop_everything_and_it_goes_on(three: LocalStack) -> None:
    async with done_to(three, Away(("kafka-1", "kafka-2"))):
        await asyncio.sleep(3)
        before = await rows(three)
        await asyncio.sleep(2)
        assert await rows(three) == before
    await flows(three)


async def test_brokers_restarted_one_after_the_other(three: LocalStack) -> None:
    async with done_to(three, RollingRestart(("kafka-1", "kafka-2", "kafka-3"))):
        pass
    await flows(three)
