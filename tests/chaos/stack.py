"""The stack that faults are done to: parts by name, and the connections between them.

Parts are `edge`, `joiner`, `rollup`, `loader`, `exporter`, `kafka-1` (to `kafka-3`) and `postgres`.
Links are the proxies in front of `kafka-<n>`, `postgres`, `edge` and `edge_internal`.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import psutil
from msgspec.structs import replace

from processors.wiring import JOINER, ROLLUP, group_of
from sendtrace.local.postgres import LocalPostgres
from sendtrace.runtime import topics
from sendtrace.runtime.settings import Settings
from sinks.migrate import migrate

from chaos.brokers import Brokers, free_ports, running_brokers
from chaos.confined import ConfinedPostgres, Disk
from chaos.freeze import resume_tree, suspend_tree
from chaos.processes import PIPELINE, EndedWhileStarting, Processes, running_processes
from chaos.proxy import Proxy

POSTGRES = "postgres"
DATA = "data"  # the folder with the state of all stages
SIMULATOR = "simulate"
SPARES = 3  # so that there may be four of a stage
START_ATTEMPTS = 6  # as `sendtrace up` allows within a minute
STAGES = {"joiner": JOINER, "rollup": ROLLUP}


def state_dir(settings: Settings, part: str) -> Path:
    """Where a stage keeps its state."""
    return settings.state_dir / group_of(settings, STAGES[part])


def broker(number: int) -> str:
    """The part that is a broker."""
    return f"kafka-{number}"


class Stack(Protocol):
    """What a fault may do to a running stack. Settings name servers past the proxies."""

    settings: Settings
    links: Mapping[str, Proxy]
    disks: Mapping[str, Path]

    @property
    def parts(self) -> tuple[str, ...]: ...
    def is_alive(self, part: str) -> bool: ...
    def pid(self, part: str) -> int: ...

    async def start(self, part: str) -> None:
        """Returns when it is ready. One that runs is left alone."""
        ...

    async def stop(self, part: str) -> None:
        """As an operator would: SIGTERM, and it ends by itself."""
        ...

    async def leave(self, part: str) -> None:
        """A stop for good: the group does not wait for this member."""
        ...

    async def kill(self, part: str) -> None:
        """SIGKILL; returns when it is gone. NoSuchProcess where it had ended by itself."""
        ...

    async def suspend(self, part: str) -> None:
        """SIGSTOP, the part and its children; returns when none runs."""
        ...

    def resume(self, part: str) -> None:
        """SIGCONT. Does nothing for one that is gone."""
        ...

    async def start_spare(self, part: str, number: int = 1) -> None:
        """One more of it (up to SPARES), past the proxies; returns when it is ready."""
        ...

    def spare_port(self, part: str, number: int = 1) -> int: ...

    async def leave_spare(self, part: str, number: int = 1) -> None:
        """A stop for good, as when scaling in."""
        ...

    async def kill_spare(self, part: str, number: int = 1) -> None:
        """As `kill`."""
        ...


async def start_again(stack: Stack, part: str) -> None:
    """As a supervisor does: a part may end while it starts."""
    for attempt in range(START_ATTEMPTS):
        try:
            await stack.start(part)
            return
        except EndedWhileStarting:
            if attempt + 1 == START_ATTEMPTS:
                raise


class LocalStack:
    """A stack of real processes on free ports of this machine."""

    def __init__(
        self,
        settings: Settings,
        brokers: Brokers,
        postgres: LocalPostgres | ConfinedPostgres,
        postgres_dir: Path,
        links: Mapping[str, Proxy],
        processes: Processes,
        spares: Mapping[int, Processes],
        disks: Mapping[str, Path],
    ) -> None:
        self.settings = settings
        self.spares = spares
        self.disks = disks
        self.brokers = brokers
        self.links = links
        self.processes = processes
        self._postgres = postgres
        self.postgres_dir = postgres_dir

    @property
    def parts(self) -> tuple[str, ...]:
        return (*PIPELINE, *map(broker, self.brokers.numbers), POSTGRES)

    def is_alive(self, part: str) -> bool:
        if part == POSTGRES:
            return self._postgres.running
        if number := _number(part):
            return self.brokers.is_alive(number)
        return self.processes.is_alive(part)

    def pid(self, part: str) -> int:
        if part == POSTGRES:
            return self._postgres.pid
        if number := _number(part):
            return self.brokers.pid(number)
        return self.processes.running[part].pid

    async def start(self, part: str) -> None:
        if self.is_alive(part):
            return
        if part == POSTGRES:
            if isinstance(self._postgres, ConfinedPostgres):
                await self._postgres.start_again()
            else:
                self._postgres = await LocalPostgres.start(
                    self.postgres_dir, port=self._postgres.port, fsync=False
                )
        elif number := _number(part):
            await self.brokers.start(number)
        else:
            await self.processes.start(part)
            await self.processes.until_ready(part)

    async def stop(self, part: str) -> None:
        if part == POSTGRES:
            await self._postgres.stop()
        elif number := _number(part):
            await self.brokers.stop(number)
        else:
            await self.processes.signal(part, signal.SIGTERM)

    async def leave(self, part: str) -> None:
        await self.processes.signal(part, signal.SIGUSR2)

    async def kill(self, part: str) -> None:
        if part not in (*PIPELINE, SIMULATOR) and not self.is_alive(part):
            raise psutil.NoSuchProcess(self.pid(part), part)
        if part == POSTGRES:
            self._postgres.kill()
        elif number := _number(part):
            self.brokers.kill(number)
        else:
            await _kill(self.processes, part)

    async def suspend(self, part: str) -> None:
        if number := _number(part):
            await self.brokers.suspend(number)
        else:
            await suspend_tree(self.pid(part))

    def resume(self, part: str) -> None:
        if number := _number(part):
            self.brokers.resume(number)
        else:
            resume_tree(self.pid(part))

    async def start_spare(self, part: str, number: int = 1) -> None:
        await self.spares[number].start(part)
        await self.spares[number].until_ready(part)

    def spare_port(self, part: str, number: int = 1) -> int:
        return self.spares[number].settings.port(part)

    async def leave_spare(self, part: str, number: int = 1) -> None:
        await self.spares[number].signal(part, signal.SIGUSR2)

    async def kill_spare(self, part: str, number: int = 1) -> None:
        await _kill(self.spares[number], part)

    async def close(self) -> None:
        """PostgreSQL as it is now; brokers, processes and proxies have their own end."""
        self.resume(POSTGRES)
        if isinstance(self._postgres, LocalPostgres):
            await self._postgres.stop()


async def _kill(processes: Processes, name: str) -> None:
    """What ended by itself, before or just now, was not killed: its exit code says so."""
    await processes.kill(name)
    process = processes.running[name]
    if process.returncode != -signal.SIGKILL:
        raise psutil.NoSuchProcess(process.pid, name, f"exit code {process.returncode}")


def _number(part: str) -> int | None:
    head, _, tail = part.partition("-")
    return int(tail) if head == "kafka" else None


@asynccontextmanager
async def running_stack(
    directory: Path,
    settings: Settings,
    *,
    brokers: int = 1,
    behind: Collection[str] = (*PIPELINE, SIMULATOR),
    disk_bytes: Mapping[str, int] | None = None,
    modules: Mapping[str, Sequence[str]] | None = None,
) -> AsyncIterator[LocalStack]:
    """Everything, with ports of its own; `behind` names the processes behind the proxies.

    `disk_bytes` gives the stages' state (DATA) or PostgreSQL a disk of that size of its own
    (`confined.py`); `modules` are run instead of sendtrace (`processes.py`). Ended at the end
    whatever happens.
    """
    async with AsyncExitStack() as ends:
        cluster = await ends.enter_async_context(
            running_brokers(directory, brokers, is_proxied=True)
        )
        sizes = dict(disk_bytes or {})
        disks: dict[str, Path] = {}
        postgres_dir, data_dir = directory / "postgres", directory / "data"
        postgres: LocalPostgres | ConfinedPostgres
        if POSTGRES in sizes:
            postgres = await ConfinedPostgres.start(postgres_dir, sizes[POSTGRES], free_ports(1)[0])
            ends.callback(postgres.close)
            disks[POSTGRES] = postgres.disk
        else:
            postgres = await LocalPostgres.start(postgres_dir, port=free_ports(1)[0], fsync=False)
            ends.callback(postgres.kill)
        if DATA in sizes:
            disk = await Disk.start(data_dir, sizes[DATA])
            ends.callback(disk.close)
            data_dir = disk.path
            disks |= dict.fromkeys(STAGES, disk.path)
        names = [f"{name}_port" for name in (*PIPELINE, "edge_internal")]
        settings = replace(
            settings,
            kafka_bootstrap=cluster.bootstrap,
            postgres_dsn=postgres.dsn,
            data_dir=str(data_dir),
            **dict(zip(names, free_ports(len(names)), strict=True)),
        )
        await topics.apply(settings)
        await migrate(settings.postgres_dsn)
        links = {broker(number): proxy for number, proxy in cluster.proxies.items()}
        for name, port in (
            (POSTGRES, postgres.port),
            ("edge", settings.edge_port),
            ("edge_internal", settings.edge_internal_port),
        ):
            links[name] = await Proxy.start(port)
            ends.push_async_callback(links[name].close)
        processes = Processes(
            settings,
            directory,
            _behind_proxies(settings, cluster, links, behind),
            modules,
        )
        spares = {
            number: _spare(settings, directory / f"spare-{number}", modules)
            for number in range(1, 1 + SPARES)
        }
        stack = LocalStack(
            settings, cluster, postgres, postgres_dir, links, processes, spares, disks
        )
        ends.push_async_callback(stack.close)
        for spare in spares.values():
            await ends.enter_async_context(running_processes(spare, ()))
        await ends.enter_async_context(running_processes(processes))
        yield stack


def _spare(
    settings: Settings, directory: Path, modules: Mapping[str, Sequence[str]] | None
) -> Processes:
    """A further member needs ports and a state folder of its own."""
    directory.mkdir()
    ports = dict(zip((f"{name}_port" for name in STAGES), free_ports(len(STAGES)), strict=True))
    own = replace(settings, data_dir=str(directory / "data"), **ports)
    return Processes(own, directory, modules=modules)


def _behind_proxies(
    settings: Settings, cluster: Brokers, links: Mapping[str, Proxy], behind: Collection[str]
) -> dict[str, Settings]:
    """A server keeps its own ports; who calls is given the proxies'."""
    at = settings.postgres_dsn.replace(
        f":{links[POSTGRES].target_port}/", f":{links[POSTGRES].port}/"
    )
    servers = replace(settings, kafka_bootstrap=cluster.proxied_bootstrap, postgres_dsn=at)
    caller = replace(
        servers, edge_port=links["edge"].port, edge_internal_port=links["edge_internal"].port
    )
    return {name: caller if name == SIMULATOR else servers for name in behind}
