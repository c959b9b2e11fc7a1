"""Values that live in files, made again when a file changes: accounts, secrets, tokens.

A new state of the files that cannot be used changes nothing: the old value stays, and it is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from sendtrace.runtime.accounts import Accounts, parse, read_accounts_text, read_secret
from sendtrace.runtime.settings import Settings, SettingsError

T = TypeVar("T")

# What tells one state of a file from the next; Kubernetes swaps a link, so the inode counts.
_Mark = tuple[int, int, int] | None


class Reread(Generic[T]):
    """The value of one file and of those it names. ``make`` gets a function that reads a file by
    its name, relative to the first one. Raises what ``make`` raises."""

    def __init__(self, path: Path, make: Callable[[Callable[[str], str], str], T]) -> None:
        self._path = path
        self._make = make
        self._marks: dict[Path, _Mark] = {}
        self.value = self._made()

    def refresh(self) -> bool:
        """Whether there is a new value. Raises SettingsError, once for each state of the files."""
        if all(_mark(path) == mark for path, mark in self._marks.items()):
            return False
        self.value = self._made()
        return True

    def _made(self) -> T:
        self._marks = {}
        return self._make(self._read, self._path.name)

    def _read(self, name: str) -> str:
        path = self._path.parent / name
        # Before the content: what changes in between is then read once more.
        self._marks[path] = _mark(path)
        return path.read_text("utf-8")


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def reread_accounts(settings: Settings) -> Reread[Accounts] | None:
    """The accounts, or None where no file is set. Raises AccountsError."""
    if not settings.accounts_file:
        return None
    return Reread(Path(settings.accounts_file), _accounts)


def _accounts(read: Callable[[str], str], name: str) -> Accounts:
    return parse(read_accounts_text(name, read), read)


def reread_sends_token(settings: Settings) -> Reread[bytes] | None:
    """The bearer token of POST /sends, or None where no file is set. Raises AccountsError."""
    if not settings.sends_token_file:
        return None
    return Reread(Path(settings.sends_token_file), _sends_token)


def _sends_token(read: Callable[[str], str], name: str) -> bytes:
    return read_secret("SENDTRACE_SENDS_TOKEN_FILE", name, read)


async def watch(
    what: Reread[T],
    on_new: Callable[[T], None],
    on_broken: Callable[[str], None],
    every_seconds: float,
) -> None:
    """Look at the files for ever. ``on_broken`` gets the sentence."""
    while True:
        await asyncio.sleep(every_seconds)
        try:
            is_new = await asyncio.to_thread(what.refresh)
        except SettingsError as error:
            on_broken(str(error))
        else:
            if is_new:
                on_new(what.value)
