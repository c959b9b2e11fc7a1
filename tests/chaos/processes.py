"""Our processes, each of its own, killed and started by name."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from sendtrace.runtime.settings import Settings, to_environment

PIPELINE = ("edge", "joiner", "rollup", "loader", "exporter")
# Bounds on hanging: on a busy machine Python alone takes seconds to start.
START_SECONDS = 90
STOP_SECONDS = 60


class EndedWhileStarting(Exception):
    """The process was gone before it was ready; the end of its log is in the message."""


class Processes:
    """The pipeline as processes of their own.

    ``others`` are settings of those that are to have other ones (behind a proxy). ``modules`` are
    what is run instead of sendtrace, with arguments before the process's name.
    """

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        others: Mapping[str, Settings] | None = None,
        modules: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.settings = settings
        self._directory = directory
        self._others = others or {}
        self._modules = modules or {}
        self.running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str, *arguments: str) -> None:
        settings = self._others.get(name, self.settings)
        module = self._modules.get(name, ("sendtrace",))
        command = [sys.executable, "-m", *module, name, *arguments]
        with (self._directory / f"{name}.log").open("ab") as log:
            self.running[name] = await asyncio.create_subprocess_exec(
                *command,
                env={**os.environ, **to_environment(settings)},
                stdout=log,
                stderr=log,
            )

    async def until_ready(self, name: str) -> None:
        port = self.settings.port("edge_internal" if name == "edge" else name)
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
            while True:
                if not self.is_alive(name):
                    raise EndedWhileStarting(f"{name}: {self.log(name)}")
                try:
                    async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    def is_alive(self, name: str) -> bool:
        return name in self.running and self.running[name].returncode is None

    async def signal(self, name: str, signum: signal.Signals) -> None:
        """Send a signal that ends it, and wait until it has."""
        if self.is_alive(name):
            self.running[name].send_signal(signum)
            await asyncio.wait_for(self.running[name].wait(), STOP_SECONDS)

    async def kill(self, name: str) -> None:
        await self.signal(name, signal.SIGKILL)

    async def stop_all(self) -> dict[str, int]:
        """The exit codes. All at once: what is under way may be joined by the next run."""
        for process in self.running.values():
            if process.returncode is None:
                process.terminate()
        return {
            name: await asyncio.wait_for(process.wait(), STOP_SECONDS)
            for name, process in self.running.items()
        }

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()[-3000:]


@asynccontextmanager
async def running_processes(
    processes: Processes, names: Collection[str] = PIPELINE
) -> AsyncIterator[Processes]:
    """Started and ready; killed at the end whatever happens."""
    try:
        for name in names:
            await processes.start(name)
        for name in names:
            await processes.until_ready(name)
        yield processes
    finally:
        for name in processes.running:
            await processes.kill(name)
