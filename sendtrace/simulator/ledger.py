"""The ledger: what the simulator is about to do, on disk before anything is sent.

JSON lines of two kinds. ``{"message_id", "api", "expected", "sent_at_us"}`` before the send, and
``{"message_id", "complete": true}`` once the edge accepted the send and every webhook. A message
without the second line was cut short (a kill, a stop, a webhook given up): of it only that nothing
is lost may be asked, not the expected outcome.

What comes in has no outcome, and lines of its own: ``{"inbound"}`` and ``{"inbound", "complete"}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from sendtrace.simulator.traffic import Expected


@dataclass(frozen=True)
class Entry:
    """One message as the ledger has it."""

    message_id: str
    api: str
    expected: str
    sent_at_us: int
    is_complete: bool = False


class Ledger:
    """Appends. A line has reached the operating system when a method returns."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def plan(self, expected: tuple[Expected, ...], sent_at_us: int) -> None:
        """Say what is about to be sent. Call before sending any of it."""
        self._append(
            [
                {
                    "message_id": one.message_id,
                    "api": one.api,
                    "expected": one.outcome,
                    "sent_at_us": sent_at_us,
                }
                for one in expected
            ]
        )

    def complete(self, expected: tuple[Expected, ...]) -> None:
        """Say that the edge accepted all of it."""
        self._append([{"message_id": one.message_id, "complete": True} for one in expected])

    def plan_inbound(self, ids: tuple[str, ...]) -> None:
        """Say what is about to come in."""
        self._append([{"inbound": message_id} for message_id in ids])

    def complete_inbound(self, ids: tuple[str, ...]) -> None:
        """Say that the edge accepted all of it."""
        self._append([{"inbound": message_id, "complete": True} for message_id in ids])

    def _append(self, lines: list[dict[str, object]]) -> None:
        if not lines:
            return
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        self._file.write(text.encode())
        self._file.flush()


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Open for appending. A line that a killed simulator left half written is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        yield Ledger(file)


def read_ledger(path: Path) -> dict[str, Entry]:
    """Every message by id."""
    entries: dict[str, Entry] = {}
    for fields in _lines(path):
        if "message_id" not in fields:
            continue
        message_id = fields["message_id"]
        if "complete" in fields:
            entries[message_id] = replace(entries[message_id], is_complete=True)
        else:
            entries[message_id] = Entry(**fields)
    return entries


def read_inbound(path: Path) -> dict[str, bool]:
    """Every message that came in by id, and whether the edge accepted it."""
    return {
        fields["inbound"]: "complete" in fields for fields in _lines(path) if "inbound" in fields
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                # Cut off by a kill. A plan cut off was never sent; a completion cut off leaves
                # the message incomplete, which asks less of it than could be asked.
                continue
