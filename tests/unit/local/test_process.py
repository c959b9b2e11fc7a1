"""Children end when told to, and when we die; nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sendtrace.local.process import (
    Child,
    LocalStackError,
    choose_port,
    run_to_end,
)

SLEEPER = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"]
# Starts a child as the local stack does, says its pids, and waits to be killed.
PARENT = """
import sys, time
from pathlib import Path
from sendtrace.local.process import Child
child = Child.start("sleeper", sys.argv[2:], log_path=Path(sys.argv[1]))
print(child.pid, child._guardian.pid, flush=True)
time.sleep(60)
"""


async def _is_up(child: Child) -> bool:
    return b"up" in child.log_path.read_bytes()


def _wait_gone(pid: int) -> None:
    try:
        psutil.Process(pid).wait(timeout=60)
    except psutil.NoSuchProcess:
        return


async def test_stop_ends_it_and_may_be_repeated(tmp_path: Path) -> None:
    child = Child.start("sleeper", SLEEPER, log_path=tmp_path / "log")
    await child.wait_until(lambda: _is_up(child), 60)
    assert psutil.Process(child.pid).cwd() == str(tmp_path)
    assert os.getsid(child.pid) != os.getsid(0)
    await child.stop(60)
    await child.stop(60)
    assert not psutil.pid_exists(child.pid)
    assert await child.wait(1) == 128 + signal.SIGTERM


async def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\n"
    argv = [sys.executable, "-c", deaf + "time.sleep(60)"]
    child = Child.start("deaf", argv, log_path=tmp_path / "log")
    await child.wait_until(lambda: _is_up(child), 60)
    await child.stop(0.2)
    assert not psutil.pid_exists(child.pid)


async def test_kill_ends_it_before_it_returns(tmp_path: Path) -> None:
    child = Child.start("sleeper", SLEEPER, log_path=tmp_path / "log")
    child.kill()
    assert not psutil.pid_exists(child.pid)
    assert not child.running
    await child.stop(1)


@pytest.mark.parametrize("victim", ["parent", "guardian"])
def test_it_ends_when_parent_or_guardian_is_killed(tmp_path: Path, victim: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "log", *SLEEPER],
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        try:
            assert parent.stdout is not None
            child_pid, guardian_pid = map(int, parent.stdout.readline().split())
            os.kill(parent.pid if victim == "parent" else guardian_pid, signal.SIGKILL)
            _wait_gone(child_pid)
            assert not psutil.pid_exists(child_pid)
        finally:
            parent.kill()
    _wait_gone(guardian_pid)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"(?s)ghost could not be started.*No such file"):
        Child.start("ghost", [tmp_path / "ghost"], log_path=tmp_path / "log")


async def test_a_death_while_starting_shows_the_end_of_the_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "raise SystemExit('no such luck')"]
    child = Child.start("server", argv, log_path=tmp_path / "log")
    with pytest.raises(LocalStackError, match=r"(?s)ended while starting.*no such luck"):
        await child.wait_until(lambda: _is_up(child), 60)


async def test_too_short_a_deadline_says_so(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = Child.start("slow", argv, log_path=tmp_path / "log")
    with pytest.raises(LocalStackError, match=r"not ready after 0\.1 s"):
        await child.wait_until(lambda: _is_up(child), 0.1)
    child.kill()


async def test_run_to_end_reports_a_failure_and_leaves_nothing_on_timeout(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "raise SystemExit(7)"]
    with pytest.raises(LocalStackError, match="code 7"):
        await run_to_end(Child.start("tool", failing, log_path=tmp_path / "log"), 10)
    endless = Child.start("tool", SLEEPER, log_path=tmp_path / "log")
    with pytest.raises(LocalStackError, match="still runs after"):
        await run_to_end(endless, 0.1)
    assert not psutil.pid_exists(endless.pid)


async def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    for text in ("first", "second"):
        argv = [sys.executable, "-c", f"print('{text}')"]
        await run_to_end(Child.start("tool", argv, log_path=tmp_path / "log"), 10)
    assert (tmp_path / "log").read_text() == "second\n"
    assert (tmp_path / "log.1").read_text() == "first\n"


def test_a_taken_port_is_refused_and_zero_finds_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalStackError, match=f"Port {port} .* taken"):
            choose_port(port)
    assert choose_port(0) > 0
