"""One owner at a time; a dead owner does not count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sendtrace.local.datadir import DataDirLock, Owner, explained, read_owner
from sendtrace.local.process import LocalStackError

HOLDER = """
import sys, time
from pathlib import Path
from sendtrace.local.datadir import DataDirLock
with DataDirLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_owner_is_known_inside_and_gone_outside(tmp_path: Path) -> None:
    with DataDirLock(tmp_path / "data"):
        owner = read_owner(tmp_path / "data")
        assert owner is not None
        assert owner.pid == os.getpid()
    assert read_owner(tmp_path / "data") is None


def test_a_second_owner_is_refused_and_a_killed_one_is_forgotten(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            refused = pytest.raises(LocalStackError, match=f"in use by process {holder.pid}")
            with refused, DataDirLock(tmp_path):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    assert (tmp_path / "owner.json").exists()
    assert read_owner(tmp_path) is None
    with DataDirLock(tmp_path):
        assert read_owner(tmp_path) == Owner.of(os.getpid())


def test_another_process_with_the_same_pid_is_not_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "owner.json"
    started_at = psutil.Process().create_time()
    Owner(os.getpid(), started_at).write(path)
    assert Owner.read(path) is not None
    Owner(os.getpid(), started_at - 100).write(path)
    assert Owner.read(path) is None


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"pid": "x", "started_at": 1}'])
def test_an_unreadable_owner_file_is_no_owner(tmp_path: Path, text: str) -> None:
    (tmp_path / "owner.json").write_text(text)
    assert read_owner(tmp_path) is None


def test_a_data_folder_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    refused = pytest.raises(LocalStackError, match="Cannot create the data folder")
    with refused, DataDirLock(tmp_path / "data"):
        pass


def test_a_full_disk_is_explained() -> None:
    refused = pytest.raises(LocalStackError, match=r"Cannot write in .*No space left.*free space")
    with refused, explained("write", Path("data")), Path("/dev/full").open("wb", 0) as full:
        full.write(b"x")
