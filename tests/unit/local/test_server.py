"""A server that is gone before its owner's file is written is told with the end of its log."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from sendtrace.local.datadir import Owner
from sendtrace.local.process import Child, LocalStackError
from sendtrace.local.server import own_when_started


async def test_a_server_that_died_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int) -> Owner:
        raise psutil.NoSuchProcess(pid)

    async def never() -> bool:
        return False

    monkeypatch.setattr(Owner, "of", gone)
    argv = [sys.executable, "-c", "raise SystemExit('no room for it')"]
    child = Child.start("Thing", argv, log_path=tmp_path / "thing.log")
    with pytest.raises(LocalStackError, match="no room for it"):
        await own_when_started(child, never, 10)
