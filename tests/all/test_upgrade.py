"""A rolling restart from older code to this and back, under load, loses and doubles nothing.

The older code is the last commit whose product code differs from the tree under test, or the one
that ``TEST_UPGRADE_FROM`` names. Code from before formats were numbered is no such code: nothing
was promised of it. Where there is none (a clone of one commit, no git), this code is used for both:
that is printed, and shows no more than a rolling restart.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from sendtrace.runtime.kafka import KafkaClients
from sendtrace.runtime.settings import Settings, to_environment
from sendtrace.simulator.ledger import read_ledger
from sendtrace.verify.run import verify

from chaos.brokers import free_ports
from chaos.processes import PIPELINE, Processes, running_processes

ROOT = Path(__file__).parents[2]
CODE = ("ingest", "processors", "schemas", "sendtrace", "sinks")
# Whoever has it numbers its formats.
FORMATS = "schemas/formats.py"
RATE = 60
# The longest that a message of this day takes.
CALM_SECONDS = 6.0
# Between two restarts: what the older code wrote must be there to be read by the newer, and back.
PAUSE_SECONDS = 1.0
VERIFY_SECONDS = 60.0


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)


def commit_before() -> str | None:
    """The last commit with other product code than this tree, if its formats have numbers."""
    if named := os.environ.get("TEST_UPGRADE_FROM"):
        return named
    if shutil.which("git") is None:
        return None
    for commit in git("rev-list", "--first-parent", "HEAD").stdout.decode().split():
        if git("diff", "--quiet", commit, "--", *CODE).returncode == 1:
            promised = git("cat-file", "-e", f"{commit}:{FORMATS}").returncode == 0
            return commit if promised else None
    return None


def test_without_git_no_older_code_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_UPGRADE_FROM", raising=False)
    monkeypatch.setenv("PATH", "")
    assert commit_before() is None


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The older code, in a folder of its own."""
    commit = commit_before()
    if commit is None:
        print("no commit with other code is here: this code is used for both")
        return ROOT
    print("upgraded from:", git("log", "-1", "--format=%h %s", commit).stdout.decode().strip())
    archive = git("archive", commit, "--", *CODE)
    assert archive.returncode == 0, archive.stderr.decode()
    folder = tmp_path / "before"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(folder, filter="data")
    return folder


class OfTwoVersions(Processes):
    """Processes that are started from the tree that ``tree`` names at the time."""

    def __init__(self, settings: Settings, directory: Path, tree: Path) -> None:
        super().__init__(settings, directory)
        self.tree = tree

    async def start(self, name: str, *arguments: str) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            self.running[name] = await run_in(
                self.tree, self.settings, log, "-m", "sendtrace", name, *arguments
            )

    async def restart(self, name: str, tree: Path) -> None:
        self.tree = tree
        await self.signal(name, signal.SIGTERM)
        assert self.running[name].returncode == 0, self.log(name)
        await self.start(name)
        await self.until_ready(name)
        await asyncio.sleep(PAUSE_SECONDS)


async def run_in(
    tree: Path, settings: Settings, output: int | io.BufferedWriter, *arguments: str
) -> asyncio.subprocess.Process:
    """Python with the code of that tree: the folder it runs in goes before what is installed."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments,
        cwd=tree, env=environment(tree, settings), stdout=output, stderr=output,
    )  # fmt: skip


def environment(tree: Path, settings: Settings) -> Mapping[str, str]:
    """Without what has its default: the older code may not know a setting, and would refuse it."""
    default = to_environment(Settings())
    told = {n: v for n, v in to_environment(settings).items() if v != default[n]}
    return {**os.environ, **told, "PYTHONPATH": str(tree)}


async def said(tree: Path, settings: Settings, *arguments: str) -> str:
    process = await run_in(tree, settings, asyncio.subprocess.PIPE, *arguments)
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, told.decode()
    return told.decode()


async def test_a_rolling_restart_to_this_code_and_back(
    before: Path, kafka_settings: Settings, postgres_dsn: str, tmp_path: Path
) -> None:
    names = [f"{name}_port" for name in (*PIPELINE, "edge_internal")]
    settings = replace(
        kafka_settings,
        postgres_dsn=postgres_dsn,
        edge_drain_seconds=0.5,
        **dict(zip(names, free_ports(len(names)), strict=True)),
    )
    where = "import sendtrace.cli; print(sendtrace.cli.__file__)"
    for tree in (before, ROOT):
        assert str(tree / "sendtrace") in await said(tree, settings, "-c", where)
    print(await said(before, settings, "-m", "sendtrace", "migrate"))
    ledger, short = tmp_path / "ledger.jsonl", tmp_path / "short.toml"
    # An ordinary day in which nobody waits for more than six seconds.
    short.write_text("compression = 10\nlongest_seconds = 60\n")
    async with running_processes(OfTwoVersions(settings, tmp_path, before)) as pipeline:
        assert isinstance(pipeline, OfTwoVersions)
        pipeline.tree = ROOT  # the ledger is read by this code
        await pipeline.start(
            "simulate", "--rate", str(RATE), "--seed", "7",
            "--ledger", str(ledger), "--scenario", str(short),
        )  # fmt: skip
        await asyncio.sleep(3)
        # Tables first, and the older loader goes on with the new ones.
        print(await said(ROOT, settings, "-m", "sendtrace", "migrate"))
        for tree in (ROOT, before):
            for name in PIPELINE:
                await pipeline.restart(name, tree)
        await asyncio.sleep(CALM_SECONDS)
        assert pipeline.is_alive("simulate"), pipeline.log("simulate")
        await pipeline.signal("simulate", signal.SIGTERM)
        assert pipeline.running["simulate"].returncode == 0, pipeline.log("simulate")
        book = read_ledger(ledger)
        assert len(book.messages.keys() & book.complete) > RATE * len(PIPELINE) * PAUSE_SECONDS
        report = await verify(settings, KafkaClients(settings), ledger, VERIFY_SECONDS, print)
        assert report.is_equal, report
        assert set((await pipeline.stop_all()).values()) == {0}
    print(f"{len(book.messages)} messages, {2 * len(PIPELINE)} restarts")
