"""`up.json` and `down`: what was left behind is ended, and nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendtrace.local import record
from sendtrace.local.datadir import Owner


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_what_was_left_behind_is_stopped(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    record.write(tmp_path, {"joiner": sleeper.pid, "gone": 2**22 + 1})
    assert list(record.read(tmp_path)) == ["joiner"]
    lines = record.stop_left_behind(tmp_path)
    assert lines == [f"Stopped joiner (pid {sleeper.pid}), which was left behind"]
    assert sleeper.wait(60) == -15
    assert list(tmp_path.iterdir()) == []


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    other = Owner(sleeper.pid, Owner.of(sleeper.pid).started_at - 3600)
    (tmp_path / record.NAME).write_text(
        f'{{"joiner": {{"pid": {other.pid}, "started_at": {other.started_at}}}}}'
    )
    assert record.stop_left_behind(tmp_path) == [f"No stack runs in {tmp_path}"]
    assert sleeper.poll() is None


def test_nothing_was_left_behind(tmp_path: Path) -> None:
    assert record.stop_left_behind(tmp_path) == [f"No stack runs in {tmp_path}"]
