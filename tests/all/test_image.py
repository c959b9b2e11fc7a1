"""deploy/Dockerfile without a container engine: its first stage is carried out in a folder.

Only then is it known that the pinned requirements install from wheels alone, that nothing which
runs needs more than they are, and that a process stops as PID 1, where a signal without a handler
is nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil
import pytest
from aiohttp import ClientError, ClientSession

from sendtrace.runtime.settings import PREFIX, Settings, to_environment

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
IGNORED = ROOT / "deploy/Dockerfile.dockerignore"
# Folders of the image that the stage uses, each in front of nothing else.
FOLDERS = ("/src", "/opt")
PORTS = [PREFIX + name.upper() for name in Settings.__struct_fields__ if name.endswith("_port")]


class Step(NamedTuple):
    """One instruction."""

    word: str
    rest: str


def stages() -> list[list[Step]]:
    """The instructions, stage by stage. It has no continued lines."""
    found: list[list[Step]] = []
    for line in DOCKERFILE.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append(Step(word, rest))
    return found


def copied() -> list[str]:
    """What the first stage copies out of the repository."""
    steps = stages()[0]
    return [each for step in steps if step.word == "COPY" for each in step.rest.split()[:-1]]


class Image(NamedTuple):
    """The stage, carried out under ``root``."""

    root: Path

    @property
    def sendtrace(self) -> str:
        [entry] = [step for step in stages()[-1] if step.word == "ENTRYPOINT"]
        [program] = re.findall(r'"(.*)"', entry.rest)
        return str(self.root) + program

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.sendtrace, *arguments], env=settings, cwd=self.root, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    root = tmp_path_factory.mktemp("image")
    work = root
    for step in stages()[0][1:]:
        match step.word:
            case "WORKDIR":
                work = root / step.rest.lstrip("/")
                work.mkdir(parents=True)
            case "COPY":
                *sources, target = step.rest.split()
                for source in sources:
                    copy(ROOT / source, work / target, is_folder=target.endswith("/"))
            case "RUN":
                carry_out(step.rest, root, work)
            case other:
                raise AssertionError(f"{other}: this test does not know it")
    return Image(root)


def copy(source: Path, target: Path, *, is_folder: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        where = target / source.name if is_folder else target
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, where)


def carry_out(command: str, root: Path, work: Path) -> None:
    """A RUN, with the image's folders under ``root`` and its Python this one."""
    words = [
        str(root) + word if word.startswith(FOLDERS) else word for word in shlex.split(command)
    ]
    assert not set("&|;$<>`") & set(command), "no shell is needed, and here is none"
    if words[0] == "python":
        words[0] = sys.executable
    done = subprocess.run(
        words, cwd=work, capture_output=True, text=True, timeout=300, check=False,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.timeout(600)
def test_it_has_what_runs_and_nothing_else(image: Image) -> None:
    told = image.run("--help")
    assert told.returncode == 0, told.stderr
    [site] = (image.root / "opt/sendtrace/lib").glob("python*/site-packages")
    installed = {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "requirements/runtime.txt").read_text(), re.M)
    # uv resolves for every Python and system: some are for others than this one.
    assert installed - {name.replace("-", "_").lower() for name in pinned} == {"sendtrace"}
    assert {"aiokafka", "asyncpg", "rocksdict"} <= installed


@pytest.mark.parametrize(
    "command", ["edge", "joiner", "rollup", "exporter", "loader", "topics apply"]
)
def test_without_kafka_each_says_so(image: Image, command: str, tmp_path: Path) -> None:
    told = image.run(
        *command.split(),
        SENDTRACE_KAFKA_BOOTSTRAP="127.0.0.1:1",
        SENDTRACE_DATA_DIR=str(tmp_path),
        **dict.fromkeys(PORTS, "0"),  # any
    )
    assert told.returncode == 4, told.stderr
    assert "Kafka at 127.0.0.1:1 does not answer" in told.stderr
    assert "Traceback" not in told.stderr


def test_outside_of_loopback_the_edge_wants_accounts(
    image: Image, kafka_settings: Settings
) -> None:
    given = to_environment(kafka_settings) | {"SENDTRACE_BIND_ADDRESS": "0.0.0.0"}
    told = image.run("edge", **given)
    assert told.returncode == 3, told.stderr
    assert "set SENDTRACE_ACCOUNTS_FILE" in told.stderr


# The setting of each process's health port.
HEALTH = {
    "edge": "edge_internal_port",
    "joiner": "joiner_port",
    "rollup": "rollup_port",
    "exporter": "exporter_port",
    "loader": "loader_port",
}

STATEFUL = {"joiner", "rollup"}


@pytest.mark.parametrize("command", HEALTH)
async def test_it_stops_as_pid_1(
    image: Image, command: str, kafka_settings: Settings, postgres_dsn: str
) -> None:
    """With no init before it: the kernel drops a signal to PID 1 that has no handler. Who has no
    state may write into no file: the chart makes the root read-only."""
    confined = [] if command in STATEFUL else ["prlimit", "--fsize=0:0"]
    ports = {f"{name}_port": free_port() for name in ("edge", *(p[:-5] for p in HEALTH.values()))}
    settings = msgspec.structs.replace(
        kafka_settings, postgres_dsn=postgres_dsn, edge_drain_seconds=0.1, **ports
    )
    environment = to_environment(settings) | {"PYTHONDONTWRITEBYTECODE": "1"}
    assert image.run("migrate", **environment).returncode == 0
    process = await asyncio.create_subprocess_exec(
        *confined, "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child",
        image.sendtrace, command,
        env=environment, cwd=image.root, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await is_ready(ports[HEALTH[command]], process)
        [inner] = psutil.Process(process.pid).children()
        inner.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            _, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()  # and with it what it started
    assert process.returncode == 0, complaints.decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def is_ready(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60), ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                    if response.status == 200:
                        return
            except ClientError:
                pass
            await asyncio.sleep(0.05)
    pytest.fail("it ended")


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    sources = copied()
    assert all((ROOT / source).exists() for source in sources)
    lines = IGNORED.read_text().split()
    assert lines[0] == "*"
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(sources)
    assert not any(fnmatch(".venv", line) for line in lines[1:])


def test_it_copies_the_packages_of_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) <= set(copied())
    [builder] = project["build-system"]["requires"]
    assert (ROOT / "requirements/build.txt").read_text().startswith(f"{builder} ")


def test_it_runs_as_nobody_in_particular() -> None:
    last = {step.word: step.rest for step in stages()[-1]}
    uid, gid = map(int, last["USER"].split(":"))
    assert uid > 1000
    assert gid > 1000
    # A shell as PID 1 would not pass the signal on.
    assert last["ENTRYPOINT"].startswith("[")


def test_both_stages_are_of_one_base_that_can_be_pinned() -> None:
    """A digest is given as a whole: two stages of two Pythons would not fit each other."""
    [default] = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE.read_text(), re.M)
    assert default.startswith(f"python:{sys.version_info.major}.{sys.version_info.minor}")
    assert [stage[0].rest.partition(" ")[0] for stage in stages()] == ["${BASE}"] * 2
