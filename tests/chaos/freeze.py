"""SIGSTOP and SIGCONT for a process and all its children (PostgreSQL has one per connection)."""

from __future__ import annotations

import asyncio
import contextlib

import psutil

SUSPEND_SECONDS = 30.0
# An ended child is not waited for by a parent that stands still.
STILL = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)


async def suspend_tree(pid: int) -> None:
    """Returns when nobody runs. A stop takes effect when the process next has a turn.

    The parent first, and its children when it stands still: it starts none any more.
    """
    process = psutil.Process(pid)
    async with asyncio.timeout(SUSPEND_SECONDS):
        await _suspend([process])
        while running := [each for each in process.children(recursive=True) if _is_running(each)]:
            await _suspend(running)


def resume_tree(pid: int) -> None:
    """Does nothing for a process that is gone: a fault may have ended it meanwhile.

    The parent last: while it stands still, the list of its children is whole.
    """
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.resume()
    process.resume()


async def _suspend(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    while any(map(_is_running, processes)):
        await asyncio.sleep(0.005)


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() not in STILL
    except psutil.NoSuchProcess:
        return False
