"""`sendtrace up --brokers 3` as its user meets it: three brokers, one killed, Ctrl-C, once more."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import psutil

from sendtrace.local import record
from sendtrace.local.plan import Options, make_plan
from sendtrace.local.process import port_is_free
from sendtrace.runtime.settings import Settings

from stack_up import free_port_base, sendtrace, up

BACK_SECONDS = 90.0
PORTS = tuple(make_plan(Settings(), {}, Options(brokers=3)).ports.values())


def said(tmp_path: Path) -> str:
    return (tmp_path / "up.log").read_text()


def brokers(data_dir: Path) -> dict[str, int]:
    found = record.read(data_dir).items()
    return {name: owner.pid for name, owner in found if name.startswith("Kafka")}


async def until_another(data_dir: Path, name: str, pid: int) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while brokers(data_dir).get(name) in (pid, None):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_three_brokers_from_nothing_and_once_more(tmp_path: Path) -> None:
    data_dir, base = tmp_path / "data", free_port_base(PORTS)
    async with up(data_dir, base, "--brokers", "3"):
        print(re.findall("sendtrace is up.*", said(tmp_path)))
        before = brokers(data_dir)
        assert set(before) == {"Kafka 1", "Kafka 2", "Kafka 3"}
        resident = [psutil.Process(pid).memory_info().rss / 2**20 for pid in before.values()]
        print("MiB resident:", *(f"{size:.0f}" for size in resident))
        os.kill(before["Kafka 2"], signal.SIGKILL)
        await until_another(data_dir, "Kafka 2", before["Kafka 2"])
        assert "Kafka 2 died; starting it again" in said(tmp_path)
        assert "died with exit code" not in said(tmp_path)  # no process of ours fell with it

    code, told = await sendtrace(data_dir, "up", "--port-base", str(base), "--brokers", "1")
    assert code == 3
    assert "begun with --brokers 3" in told

    async with up(data_dir, base, "--no-simulate"):  # what was begun goes on
        print(re.findall("sendtrace is up.*", said(tmp_path)))
        assert set(brokers(data_dir)) == set(before)
    assert all(port_is_free(port + base) for port in PORTS)
