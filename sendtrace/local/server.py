"""What Kafka and PostgreSQL have in common here: a child on a data folder that has one owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil

from sendtrace.local.datadir import Owner, explained
from sendtrace.local.process import Child, LocalStackError

# One whose parent was killed just now is being stopped by its guardian: give it that time.
PREDECESSOR_TIMEOUT_SECONDS = 25


class LocalServer:
    """A server in a child process. Its log and its owner's file lie in its data folder."""

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        self.port = port

    @property
    def pid(self) -> int:
        """Of the server itself (the JVM, the postmaster), not of its guardian."""
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    async def stop(self, timeout_seconds: float = 20) -> None:
        """Stop cleanly, with SIGKILL after the timeout. Also fine after `kill`, and twice."""
        await self._child.stop(timeout_seconds)
        _owner_path(self._child.log_path).unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, as a power cut would; returns when it is gone. For tests."""
        self._child.kill()


async def wait_for_predecessor(name: str, log_path: Path) -> None:
    """Until an earlier server is off this folder. Raises LocalStackError when it stays."""
    owner = Owner.read(_owner_path(log_path))
    if owner and not await asyncio.to_thread(owner.wait_until_gone, PREDECESSOR_TIMEOUT_SECONDS):
        raise LocalStackError(
            f"Another {name} (process {owner.pid}) runs on {log_path.parent}: stop it, or choose"
            " another data folder."
        )


async def own_when_started(
    child: Child, has_started: Callable[[], Awaitable[bool]], seconds: float
) -> None:
    """Say that the folder is the child's, and wait until it serves. Kills it when that fails."""
    try:
        with (
            explained(f"write {child.name}'s owner file", child.log_path.parent),
            suppress(psutil.NoSuchProcess),  # dead already: the wait tells why, with its log
        ):
            Owner.of(child.pid).write(_owner_path(child.log_path))
        await child.wait_until(has_started, seconds)
    except BaseException:
        child.kill()
        raise


def _owner_path(log_path: Path) -> Path:
    return log_path.with_suffix(".json")
