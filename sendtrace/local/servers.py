"""Kafka and PostgreSQL of the local stack: started side by side, restarted, stopped in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from sendtrace.local.brokers import Broker, broker_name, start_broker
from sendtrace.local.plan import StackPlan
from sendtrace.local.postgres import LocalPostgres
from sendtrace.local.process import LocalStackError
from sendtrace.local.supervisor import RESTARTS_PER_MINUTE, WATCH_SECONDS, RestartBudget
from sendtrace.runtime import topics
from sinks.migrate import migrate

POSTGRES = "PostgreSQL"


class Server(Protocol):
    """What LocalKafka and LocalPostgres have in common."""

    @property
    def pid(self) -> int: ...
    @property
    def running(self) -> bool: ...
    async def stop(self) -> None: ...


class Servers:
    """The servers of one stack; those of somebody else's are used and left alone."""

    def __init__(
        self, plan: StackPlan, say: Callable[[str], None], on_change: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._say = say
        self._on_change = on_change
        self._running: dict[str, Server] = {}
        self._download_step = -1
        self._starts: dict[str, Callable[[], Awaitable[Server]]] = {}
        self._folders: dict[str, Path] = {}
        for broker in plan.brokers:
            name = broker_name(broker, plan.brokers)
            self._starts[name] = partial(self._start_kafka, broker)
            self._folders[name] = broker.folder
        if plan.postgres_port is not None:
            self._starts[POSTGRES] = self._start_postgres
            self._folders[POSTGRES] = plan.data_dir / "postgres"

    async def start(self) -> None:
        """Both, with topics and tables as they must be. Call ``stop`` also when this failed."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._prepare_kafka())
            tasks.create_task(self._prepare_postgres())

    async def watch(self) -> None:
        """Never returns. A server that died is started again, over its data, within a budget."""
        budgets = {name: RestartBudget() for name in self._starts}
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            dead = [name for name, server in self._running.items() if not server.running]
            for name in dead:
                if not budgets[name].allows(time.monotonic()):
                    raise LocalStackError(
                        f"{name} died {RESTARTS_PER_MINUTE + 1} times in a minute: its log is "
                        f"under {self._folders[name]}"
                    )
                self._say(f"{name} died; starting it again")
            await self._ensure_all(dead)

    async def stop(self) -> None:
        """PostgreSQL, then Kafka: the loader's database has nobody behind it."""
        postgres = self._running.pop(POSTGRES, None)
        brokers = [self._running.pop(name) for name in list(self._running)]
        try:
            if postgres is not None:
                await postgres.stop()
        finally:
            async with asyncio.TaskGroup() as tasks:
                for broker in brokers:
                    tasks.create_task(broker.stop())

    def pids(self) -> dict[str, int]:
        return {name: server.pid for name, server in self._running.items()}

    async def _prepare_kafka(self) -> None:
        await self._ensure_all([name for name in self._starts if name != POSTGRES])
        for line in await topics.apply(self._plan.settings):
            self._say(f"topics: {line}")

    async def _prepare_postgres(self) -> None:
        await self._ensure_all([name for name in self._starts if name == POSTGRES])
        for name in await migrate(self._plan.settings.postgres_dsn):
            self._say(f"database: applied {name}")

    async def _ensure_all(self, names: Sequence[str]) -> None:
        """Side by side: a broker of three has started only when a majority has."""
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(self._ensure(name))

    async def _ensure(self, name: str) -> None:
        self._running[name] = await self._starts[name]()
        self._on_change()

    async def _start_kafka(self, broker: Broker) -> Server:
        return await start_broker(broker, self._plan.brokers, on_progress=self._say_download)

    async def _start_postgres(self) -> Server:
        assert self._plan.postgres_port is not None
        return await LocalPostgres.start(self._folders[POSTGRES], port=self._plan.postgres_port)

    def _say_download(self, done: int, total: int, text: str) -> None:
        """A line per tenth of the way: this happens once per machine."""
        step = done * 10 // max(total, 1)
        if step != self._download_step:
            self._download_step = step
            self._say(f"Kafka, once per machine: {text} ({done} of {total})")
