"""`sendtrace up` as a process of a test's own, on ports and data of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from sendtrace.local.plan import Options, make_plan
from sendtrace.local.process import port_is_free
from sendtrace.runtime.settings import Settings

ROOT = Path(__file__).parents[1]
# Bounds on hanging: on a busy machine a start takes a minute.
STARTED_SECONDS = 180
STOPPED_SECONDS = 120
PORTS = tuple(make_plan(Settings(), {}, Options()).ports.values())


def free_port_base(ports: Collection[int] = PORTS) -> int:
    bases = range(101, 901, 10)  # out of FREE_PORTS, which other tests choose from
    return next(base for base in bases if all(port_is_free(port + base) for port in ports))


async def sendtrace(data_dir: Path, *arguments: str) -> tuple[int | None, str]:
    """A command beside it: the exit code, and what it said; on stderr only if it is not 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sendtrace", *arguments,
        cwd=ROOT,
        env={**os.environ, "SENDTRACE_DATA_DIR": str(data_dir)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 240)
    return process.returncode, out.decode() + (err.decode() if process.returncode else "")


def cpu_seconds(pid: int) -> float:
    """Of a process and all that it started."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:4]) for process in processes)


@asynccontextmanager
async def up(data_dir: Path, base: int, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A stack that is up. At the end it gets Ctrl-C, and must leave nothing behind."""
    log = (data_dir.parent / "up.log").open("ab")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sendtrace", "up", "--port-base", str(base), *options,
        cwd=ROOT,
        env={**os.environ, "SENDTRACE_DATA_DIR": str(data_dir)},
        stdout=log,
        stderr=log,
    )  # fmt: skip
    started = time.monotonic()
    try:
        while b"sendtrace is up" not in (data_dir.parent / "up.log").read_bytes():
            assert process.returncode is None, (data_dir.parent / "up.log").read_text()
            assert time.monotonic() - started < STARTED_SECONDS
            await asyncio.sleep(0.1)
        yield process
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), STOPPED_SECONDS)
        log.close()
    assert code == 0
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert all(port_is_free(port + base) for port in PORTS)
    (data_dir.parent / "up.log").unlink()
