"""`sendtrace up --brokers 3` as its user meets it: three brokers, one killed, Ctrl-C, once more."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from sendtrace.local import record
from sendtrace.local.plan import Options, make_plan
from sendtrace.local.process import port_is_free
from sendtrace.runtime.settings import Settings

STARTED_SECONDS = 180.0
BACK_SECONDS = 90.0
STOP_SECONDS = 60.0
PORTS = tuple(make_plan(Settings(), {}, Options(brokers=3)).ports.values())


def free_port_base() -> int:
    bases = range(10_000, 40_000, 501)
    return next(base for base in bases if all(port_is_free(port + base) for port in PORTS))


def text(log: Path) -> str:
    return log.read_text()


async def said(log: Path, words: str, process: asyncio.subprocess.Process, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while words not in text(log):
        assert process.returncode is None, text(log)
        assert time.monotonic() < deadline, text(log)
        await asyncio.sleep(0.1)


async def start(tmp_path: Path, base: int, *options: str) -> asyncio.subprocess.Process:
    with (tmp_path / "up.log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sendtrace", "up", "--port-base", str(base), *options,
            env={**os.environ, "SENDTRACE_DATA_DIR": str(tmp_path / "data")},
            stdout=log,
            stderr=log,
        )  # fmt: skip


async def stopped(process: asyncio.subprocess.Process) -> None:
    began = time.monotonic()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), STOP_SECONDS) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    print(f"stopped after {time.monotonic() - began:.1f} s")


async def test_three_brokers_from_nothing_and_once_more(tmp_path: Path) -> None:
    data_dir, base, log = tmp_path / "data", free_port_base(), tmp_path / "up.log"
    process = await start(tmp_path, base, "--brokers", "3", "--rate", "20")
    try:
        await said(log, "sendtrace is up", process, STARTED_SECONDS)
        print(next(line for line in text(log).splitlines() if "sendtrace is up" in line))
        brokers = {n: o.pid for n, o in record.read(data_dir).items() if n.startswith("Kafka")}
        assert set(brokers) == {"Kafka 1", "Kafka 2", "Kafka 3"}
        resident = {name: psutil.Process(pid).memory_info().rss for name, pid in brokers.items()}
        print({name: f"{size / 2**20:.0f} MiB" for name, size in resident.items()})

        os.kill(brokers["Kafka 2"], signal.SIGKILL)
        await said(log, "Kafka 2 died; starting it again", process, 5)
        deadline = time.monotonic() + BACK_SECONDS
        while record.read(data_dir)["Kafka 2"].pid == brokers["Kafka 2"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert "died with exit code" not in text(log)  # no process of ours fell with it
        await stopped(process)

        process = await start(tmp_path, base, "--brokers", "1")
        assert await asyncio.wait_for(process.wait(), 20) == 3
        assert "begun with --brokers 3" in text(log)

        process = await start(tmp_path, base, "--no-simulate")  # what was begun goes on
        await said(log, "sendtrace is up", process, STARTED_SECONDS)
        print(next(line for line in text(log).splitlines() if "sendtrace is up" in line))
        assert {"Kafka 1", "Kafka 2", "Kafka 3"} <= set(record.read(data_dir))
        await stopped(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
