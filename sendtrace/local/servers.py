"""Kafka and PostgreSQL of the local stack: started side by side, restarted, stopped in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from sendtrace.local.kafka import LocalKafka
from sendtrace.local.plan import StackPlan
from sendtrace.local.postgres import LocalPostgres
from sendtrace.local.process import LocalStackError
from sendtrace.local.supervisor import RESTARTS_PER_MINUTE, WATCH_SECONDS, RestartBudget
from sendtrace.runtime import topics
from sinks.migrate import migrate

FOLDERS = {"Kafka": "kafka", "PostgreSQL": "postgres"}


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
        if plan.kafka_port is not None:
            self._starts["Kafka"] = self._start_kafka
        if plan.postgres_port is not None:
            self._starts["PostgreSQL"] = self._start_postgres

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
            for name in [name for name, server in self._running.items() if not server.running]:
                if not budgets[name].allows(time.monotonic()):
                    raise LocalStackError(
                        f"{name} died {RESTARTS_PER_MINUTE + 1} times in a minute: its log is "
                        f"under {self._folder(name)}"
                    )
                self._say(f"{name} died; starting it again")
                await self._ensure(name)

    async def stop(self) -> None:
        """PostgreSQL, then Kafka: the loader's database has nobody behind it."""
        postgres = self._running.pop("PostgreSQL", None)
        kafka = self._running.pop("Kafka", None)
        try:
            if postgres is not None:
                await postgres.stop()
        finally:
            if kafka is not None:
                await kafka.stop()

    def pids(self) -> dict[str, int]:
        return {name: server.pid for name, server in self._running.items()}

    async def _prepare_kafka(self) -> None:
        await self._ensure("Kafka")
        for line in await topics.apply(self._plan.settings):
            self._say(f"topics: {line}")

    async def _prepare_postgres(self) -> None:
        await self._ensure("PostgreSQL")
        for name in await migrate(self._plan.settings.postgres_dsn):
            self._say(f"database: applied {name}")

    async def _ensure(self, name: str) -> None:
        if name in self._starts:
            self._running[name] = await self._starts[name]()
            self._on_change()

    async def _start_kafka(self) -> Server:
        assert self._plan.kafka_port is not None
        assert self._plan.kafka_controller_port is not None
        return await LocalKafka.start(
            self._folder("Kafka"),
            port=self._plan.kafka_port,
            controller_port=self._plan.kafka_controller_port,
            on_progress=self._say_download,
        )

    async def _start_postgres(self) -> Server:
        assert self._plan.postgres_port is not None
        return await LocalPostgres.start(self._folder("PostgreSQL"), port=self._plan.postgres_port)

    def _folder(self, name: str) -> Path:
        return self._plan.data_dir / FOLDERS[name]

    def _say_download(self, done: int, total: int, text: str) -> None:
        """A line per tenth of the way: this happens once per machine."""
        step = done * 10 // max(total, 1)
        if step != self._download_step:
            self._download_step = step
            self._say(f"Kafka, once per machine: {text} ({done} of {total})")
