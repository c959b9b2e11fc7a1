"""Checks before the start: sentences that say what to do."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from sendtrace.local import ports


def test_a_taken_port_names_its_owner() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = ports.taken({"edge": port})
    assert found["edge"].startswith(f"Port {port} (edge) is taken by ")
    assert found["edge"].endswith(f"(pid {os.getpid()})")


def test_a_free_port_is_not_mentioned() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    assert ports.taken({"edge": port}) == {}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    complaint = ports.unwritable(tmp_path / "file" / "data")
    assert complaint is not None
    assert "cannot be created (Not a directory): set SENDTRACE_DATA_DIR" in complaint


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    complaint = ports.unwritable(tmp_path)
    assert complaint is not None
    assert "is not writable: set SENDTRACE_DATA_DIR" in complaint


@pytest.mark.parametrize(("free", "is_short"), [(999_999_999, True), (1_000_000_000, False)])
def test_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, is_short: bool) -> None:
    class Usage:
        def __init__(self, free: int) -> None:
            self.free = free

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free))
    assert (ports.short_of_room(tmp_path) is not None) == is_short
