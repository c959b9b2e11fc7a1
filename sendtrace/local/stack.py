"""`sendtrace up`: the whole system on one machine, from nothing to figures, and back to nothing.

1. Take the data folder's lock; refuse at once what would fail later (ports, permissions, room);
   make the secrets that are missing.
2. Kafka with its topics, and PostgreSQL with its migrations, side by side.
3. edge, joiner, rollup, loader and exporter; wait until each is ready.
4. The simulator, and the live table, until Ctrl-C or SIGTERM.
5. Stop: simulator, edge, joiner, rollup, loader, exporter, PostgreSQL, Kafka. The data stays.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from sendtrace.local import ports, record, secrets
from sendtrace.local.config import masked_url
from sendtrace.local.database import Database
from sendtrace.local.datadir import DataDirLock, explained
from sendtrace.local.plan import MADE_BY_US, ChildPlan, StackPlan, child_environment
from sendtrace.local.process import LocalStackError
from sendtrace.local.scrape import unready_reason, wait_ready
from sendtrace.local.servers import Servers
from sendtrace.local.show import Screen
from sendtrace.local.supervisor import Supervisor

READY_SECONDS = 60.0


async def up(
    plan: StackPlan, is_fresh: bool, environment: Mapping[str, str], stopping: asyncio.Event
) -> None:
    """Run the stack until ``stopping``. Raises LocalStackError when it cannot be kept up."""
    screen = Screen()
    with DataDirLock(plan.data_dir):
        _refuse_early(plan)
        if is_fresh:
            _start_over(plan.data_dir)
        if plan.makes_secrets:
            secrets.make(plan.data_dir)
        work = asyncio.create_task(_run(plan, environment, screen))
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not work.done():
                screen.say("Stopping ...")
                work.cancel()
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()
            screen.say("Stopped. The data stays for the next `sendtrace up`.")
        finally:
            record.remove(plan.data_dir)


def _refuse_early(plan: StackPlan) -> None:
    """Say at once what would fail later, all of it together."""
    complaints = [ports.short_of_room(plan.data_dir), *ports.taken(plan.ports).values()]
    found = [complaint for complaint in complaints if complaint]
    if any("Port" in complaint for complaint in found):
        found.append("Stop what listens there, or start with another --port-base, such as 1000")
    if found:
        raise LocalStackError("\n".join(found))


def _start_over(data_dir: Path) -> None:
    with explained("remove the old data", data_dir):
        for name in MADE_BY_US:
            path = data_dir / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


async def _run(plan: StackPlan, environment: Mapping[str, str], screen: Screen) -> None:
    """Until cancelled. Everything started here is stopped here, whatever happens."""
    began = time.monotonic()
    logs_dir = plan.data_dir / "logs"
    with explained("create the logs", logs_dir):
        logs_dir.mkdir(exist_ok=True)

    def note() -> None:
        record.write(plan.data_dir, servers.pids() | supervisor.pids())

    servers = Servers(plan, screen.say, note)
    supervisor = Supervisor(
        child_environment(environment, plan.settings), logs_dir, screen.say, note
    )
    async with AsyncExitStack() as cleanup:
        session = await cleanup.enter_async_context(aiohttp.ClientSession())
        cleanup.push_async_callback(servers.stop)
        cleanup.push_async_callback(supervisor.stop, plan.stop_order)
        await servers.start()
        async with asyncio.TaskGroup() as tasks:
            for process in plan.processes:
                supervisor.start(process)
            tasks.create_task(servers.watch())
            tasks.create_task(supervisor.watch())
            await _all_ready(session, plan.processes)
            supervisor.all_are_up()
            if plan.simulator is not None:
                supervisor.start(plan.simulator)
            screen.say(_banner(plan, time.monotonic() - began))
            ports = {process.name: process.port for process in plan.processes}
            await screen.live(session, ports, Database(plan.settings.postgres_dsn))


async def _all_ready(session: aiohttp.ClientSession, processes: tuple[ChildPlan, ...]) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.gather(*(wait_ready(session, process.port) for process in processes))
    except TimeoutError as error:
        reasons = [
            f"{process.name} is not ready: {reason}"
            for process in processes
            if (reason := await unready_reason(session, process.port))
        ]
        raise LocalStackError(
            "\n".join([f"After {READY_SECONDS:g} s:", *reasons, "Their logs may say more."])
        ) from error


def _banner(plan: StackPlan, seconds: float) -> str:
    """Where everything is. Shows one secret on purpose: the path that a developer needs here."""
    settings = plan.settings
    host = "http://127.0.0.1"
    token = f"{secrets.local_token(plan.data_dir)}/" if plan.makes_secrets else ""
    return f"""
sendtrace is up after {seconds:.1f} s
  webhooks     {host}:{settings.port("edge")}/webhooks/{token}
  sends        {host}:{settings.port("edge_internal")}/sends
  metrics      {host}:{settings.port("exporter")}/metrics
  Kafka        {settings.kafka_bootstrap}
  PostgreSQL   {masked_url(settings.postgres_dsn)}
  accounts     {settings.accounts_file}
  sends token  {settings.sends_token_file or "none: from this host only"}
  logs         {plan.data_dir / "logs"}
Ctrl-C stops it; the data stays.
"""
