"""The data folder: one owner at a time, and owners that are gone are recognised.

The lock itself is the kernel's (filelock, flock): it cannot outlive its holder. The owner file
beside it says who holds it, for messages and for `sendtrace down`; a pid alone may have been
given to another program since, so it counts only together with the process's start time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from filelock import FileLock, Timeout

from sendtrace.local.process import LocalStackError

# psutil counts the start time in clock ticks of 10 ms since boot; boot time itself may drift.
SAME_START_SECONDS = 1.0


@dataclass(frozen=True)
class Owner:
    """A process, told apart from later ones with the same pid."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> Owner:
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def read(cls, path: Path) -> Owner | None:
        """The owner written in `path`, if it still runs; else None."""
        try:
            fields = json.loads(path.read_text())
            owner = cls(int(fields["pid"]), float(fields["started_at"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # never written, or by something that is not us
        return owner if owner.is_alive() else None

    def write(self, path: Path) -> None:
        """Atomically, so that no reader sees half of it."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps({"pid": self.pid, "started_at": self.started_at}))
        partial.replace(path)

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            same: bool = abs(process.create_time() - self.started_at) < SAME_START_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def wait_until_gone(self, timeout_seconds: float) -> bool:
        """Blocks; True when it ended in time."""
        deadline = time.monotonic() + timeout_seconds
        while self.is_alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True


@contextmanager
def explained(doing: str, folder: Path) -> Iterator[None]:
    """An OSError while `doing` something in `folder` becomes a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        raise LocalStackError(
            f"Cannot {doing} in {folder} ({error.strerror or error}): make it writable, free space"
            " on its disk, or choose another data folder."
        ) from error


def make_folder(folder: Path) -> Path:
    """Create it with its parents; the absolute path, for children have another cwd."""
    folder = folder.absolute()
    with explained("create the data folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


class DataDirLock:
    """A context manager: inside it this process alone owns `data_dir`.

    Raises LocalStackError naming the owner when another process has it.
    """

    def __init__(self, data_dir: Path, *, timeout_seconds: float = 0) -> None:
        self._data_dir = data_dir
        self._timeout_seconds = timeout_seconds
        self._lock = FileLock(data_dir / "lock", is_singleton=False)

    def __enter__(self) -> Self:
        make_folder(self._data_dir)
        try:
            with explained("take the lock", self._data_dir):
                self._lock.acquire(timeout=self._timeout_seconds)
        except LocalStackError as error:
            # filelock's Timeout is an OSError too, and the one that is nobody's fault.
            if not isinstance(error.__cause__, Timeout):
                raise
            owner = read_owner(self._data_dir)
            who = f"process {owner.pid}" if owner else "another process"
            raise LocalStackError(
                f"{self._data_dir} is in use by {who}: run `sendtrace down`, or choose another"
                " data folder with SENDTRACE_DATA_DIR."
            ) from error
        try:
            with explained("write the owner file", self._data_dir):
                Owner.of(os.getpid()).write(_owner_path(self._data_dir))
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _owner_path(self._data_dir).unlink(missing_ok=True)
        self._lock.release()


def read_owner(data_dir: Path) -> Owner | None:
    """Who owns `data_dir` now; None when nobody does, also when the last owner was killed."""
    return Owner.read(_owner_path(data_dir))


def _owner_path(data_dir: Path) -> Path:
    return data_dir / "owner.json"
