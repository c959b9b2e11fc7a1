"""Every HTTP request of the simulator, written down before it is sent and again when answered.

JSON lines: ``{"request": {...}}`` and ``{"answer": {...}}``. A request without the second line was
in flight when the simulator was killed: nobody knows. ``ce_id`` is what the edge computes of the
same request (a hash of method, path and raw bytes), so what was answered with 200 can be looked up
in Kafka. Tokens in paths, queries and bodies are not written.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import msgspec
from msgspec import Struct

from schemas.codec import event_id
from sendtrace.simulator.ledger import open_lines, read_lines
from sendtrace.simulator.webhook import Request

FILE = "requests.jsonl"


class Sent(Struct, frozen=True, kw_only=True, tag_field="line", tag="request"):
    """A request that is about to be sent. ``ids`` are the messages that it is about."""

    n: str  # unique
    method: str
    path: str
    ce_id: str
    ids: tuple[str, ...]
    at_us: int


class Answered(Struct, frozen=True, kw_only=True, tag_field="line", tag="answer"):
    """Its answer: an HTTP status, or None where the connection was cut or nothing came in time."""

    n: str
    status: int | None


@dataclass(frozen=True)
class Logged:
    """A request as read, with what became of it."""

    sent: Sent
    status: int | None = None
    is_cut: bool = False

    @property
    def answer(self) -> Literal["200", "other", "cut", "in flight"]:
        if self.status is not None:
            return "200" if self.status == 200 else "other"
        return "cut" if self.is_cut else "in flight"


class RequestLog:
    """Appends. A line has reached the operating system when a method returns."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._run = uuid.uuid4().hex[:8]
        self._count = 0

    def sending(self, request: Request, ids: tuple[str, ...], at_us: int) -> str:
        """Call before the request leaves. Answers what ``answered`` asks for."""
        self._count += 1
        n = f"{self._run}-{self._count}"
        raw = request.query.encode() if request.method == "GET" else request.body
        self._append(
            Sent(
                n=n,
                method=request.method,
                path=request.shown_path,
                ce_id=event_id(request.method, request.shown_path, raw),
                ids=ids,
                at_us=at_us,
            )
        )
        return n

    def answered(self, n: str, status: int | None) -> None:
        self._append(Answered(n=n, status=status))

    def _append(self, line: Sent | Answered) -> None:
        self._file.write(_encode(line) + b"\n")


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Sent | Answered).decode


@contextmanager
def open_requests(path: Path) -> Iterator[RequestLog]:
    """Open for appending."""
    with open_lines(path) as file:
        yield RequestLog(file)


def read_requests(path: Path) -> list[Logged]:
    """Every request in the order in which they were sent."""
    found: dict[str, Logged] = {}
    for line in read_lines(path, _decode):
        if isinstance(line, Sent):
            found[line.n] = Logged(line)
        elif line.n in found:
            found[line.n] = Logged(found[line.n].sent, line.status, line.status is None)
    return list(found.values())
