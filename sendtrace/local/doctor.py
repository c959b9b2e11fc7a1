"""`sendtrace doctor`: what sendtrace needs, whether it is there, and what to do if it is not."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import asyncpg
import msgspec

from sendtrace.local import ports
from sendtrace.local.brokers import begun_with, bootstrap, place
from sendtrace.local.datadir import read_owner
from sendtrace.local.plan import Options, make_plan
from sendtrace.runtime import topics
from sendtrace.runtime.settings import Settings, SettingsError
from sinks.migrate import migrations
from sinks.postgres import connect

PYTHON_NEEDED = (3, 11)
POSTGRES_TIMEOUT_SECONDS = 5.0

State = Literal["ok", "wrong", "away"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``advice`` is empty when it is as it should be."""

    name: str
    state: State
    found: str
    advice: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything. Changes nothing but that the data folder may be created."""
    data_dir = Path(settings.data_dir)
    settings = _with_every_broker(settings, data_dir)
    servers = await asyncio.gather(_kafka(settings), _postgres(settings))
    return [_python(), *_folder(data_dir), _ports(settings, data_dir), *servers[0], *servers[1]]


def as_text(findings: Sequence[Finding]) -> str:
    """A line each; the advice under it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<5}  {finding.name:<{width}}  {finding.found}")
        if finding.advice:
            lines.append(f"{'':<5}  {'':<{width}}  -> {finding.advice}")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def exit_code(findings: Sequence[Finding]) -> int:
    """4 if something is away, else 3 if something is wrong, else 0."""
    states = {finding.state for finding in findings}
    return 4 if "away" in states else 3 if "wrong" in states else 0


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info >= PYTHON_NEEDED:
        return Finding("Python", "ok", found)
    return Finding("Python", "wrong", found, "Install Python 3.11 or newer")


def _folder(data_dir: Path) -> list[Finding]:
    where = str(data_dir.resolve())
    complaint = ports.unwritable(data_dir)
    if complaint is not None:
        return [Finding("data folder", "wrong", where, complaint)]
    short = ports.short_of_room(data_dir)
    return [
        Finding("data folder", "ok", f"{where} is writable"),
        Finding("disk", "wrong", "nearly full", short)
        if short
        else Finding("disk", "ok", "enough room"),
    ]


def _ports(settings: Settings, data_dir: Path) -> Finding:
    owner = read_owner(data_dir)
    if owner is not None:
        return Finding("ports", "ok", f"in use by our own stack (pid {owner.pid})")
    options = Options(brokers=begun_with(data_dir) or 1)
    taken = ports.taken(make_plan(settings, {}, options).ports)
    if not taken:
        return Finding("ports", "ok", "all free for `sendtrace up`")
    return Finding(
        "ports", "wrong", "; ".join(taken.values()), "Stop what listens there, or use --port-base"
    )


async def _kafka(settings: Settings) -> list[Finding]:
    try:
        answering = await topics.brokers(settings)
        drift = await topics.drift(settings)
    except topics.DependencyAway as error:
        return [Finding("Kafka", "away", "does not answer", str(error))]
    findings = [Finding("Kafka", "ok", f"{settings.kafka_bootstrap} answers")]
    if (named := len(settings.kafka_bootstrap.split(","))) > 1:
        findings.append(_brokers(named, answering))
    if not drift:
        return [*findings, Finding("topics", "ok", "all there and as they must be")]
    found = "; ".join(map(str, drift))
    return [*findings, Finding("topics", "wrong", found, "Run `sendtrace topics apply`")]


def _brokers(named: int, answering: int) -> Finding:
    """Of a cluster of three one may be away without anybody noticing: here it is said."""
    if answering >= named:
        return Finding("brokers", "ok", f"{answering} in the cluster")
    advice = "Start those that are away: what is acknowledged now has fewer copies"
    return Finding("brokers", "wrong", f"{answering} of {named} in the cluster", advice)


def _with_every_broker(settings: Settings, data_dir: Path) -> Settings:
    """`up --brokers 3` runs all three; the default of the setting names only the first."""
    if settings.kafka_bootstrap != Settings().kafka_bootstrap or begun_with(data_dir) != 3:
        return settings
    every = bootstrap(place(data_dir, 3, settings.port_base))
    return msgspec.structs.replace(settings, kafka_bootstrap=every)


async def _postgres(settings: Settings) -> list[Finding]:
    try:
        missing = await _missing_migrations(settings.postgres_dsn)
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        SettingsError,
    ) as error:
        # Which of them it is stands in the text; for each of them there is no database to use.
        advice = "Start it (`sendtrace up`), or set SENDTRACE_POSTGRES_DSN"
        return [Finding("PostgreSQL", "away", str(error) or type(error).__name__, advice)]
    reachable = Finding("PostgreSQL", "ok", "answers")
    if not missing:
        return [reachable, Finding("tables", "ok", "up to date")]
    found = f"missing: {', '.join(missing)}"
    return [reachable, Finding("tables", "wrong", found, "Run `sendtrace migrate`")]


async def _missing_migrations(dsn: str) -> list[str]:
    connection = await connect(dsn, timeout=POSTGRES_TIMEOUT_SECONDS)
    try:
        applied: set[str] = set()
        if await connection.fetchval("select to_regclass('schema_migrations')"):
            rows = await connection.fetch("select name from schema_migrations")
            applied = {row["name"] for row in rows}
    finally:
        await connection.close()
    return [migration.name for migration in migrations() if migration.name not in applied]
