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

from sendtrace.local import ports
from sendtrace.local.datadir import read_owner
from sendtrace.local.plan import Options, make_plan
from sendtrace.runtime import topics
from sendtrace.runtime.settings import Settings
from sinks.migrate import migrations

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
    taken = ports.taken(make_plan(settings, {}, Options()).ports)
    if not taken:
        return Finding("ports", "ok", "all free for `sendtrace up`")
    return Finding(
        "ports", "wrong", "; ".join(taken.values()), "Stop what listens there, or use --port-base"
    )


async def _kafka(settings: Settings) -> list[Finding]:
    try:
        drift = await topics.drift(settings)
    except topics.DependencyAway as error:
        return [Finding("Kafka", "away", "does not answer", str(error))]
    reachable = Finding("Kafka", "ok", f"{settings.kafka_bootstrap} answers")
    if not drift:
        return [reachable, Finding("topics", "ok", "all there and as they must be")]
    found = "; ".join(map(str, drift))
    return [reachable, Finding("topics", "wrong", found, "Run `sendtrace topics apply`")]


async def _postgres(settings: Settings) -> list[Finding]:
    try:
        missing = await _missing_migrations(settings.postgres_dsn)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # Which of them it is stands in the text; for each of them there is no database to use.
        advice = "Start it (`sendtrace up`), or set SENDTRACE_POSTGRES_DSN"
        return [Finding("PostgreSQL", "away", str(error) or type(error).__name__, advice)]
    reachable = Finding("PostgreSQL", "ok", "answers")
    if not missing:
        return [reachable, Finding("tables", "ok", "up to date")]
    found = f"missing: {', '.join(missing)}"
    return [reachable, Finding("tables", "wrong", found, "Run `sendtrace migrate`")]


async def _missing_migrations(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn, timeout=POSTGRES_TIMEOUT_SECONDS)
    try:
        applied: set[str] = set()
        if await connection.fetchval("select to_regclass('schema_migrations')"):
            rows = await connection.fetch("select name from schema_migrations")
            applied = {row["name"] for row in rows}
    finally:
        await connection.close()
    return [migration.name for migration in migrations() if migration.name not in applied]
