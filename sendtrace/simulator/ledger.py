"""The ledger: what the simulator is about to do and what must follow, on disk before it is sent.

JSON lines. ``run`` says how the run was started; ``message``, ``rollup`` and ``inbound`` stand
there before anything of theirs is sent; ``complete`` names them once the edge accepted the send and
every webhook. Without the last line a plan was cut short (a kill, a stop, a webhook given up): of
it only that nothing is lost may be asked, not the expected outcome.

What must follow is worked out here (expect.py), never by the pipeline's own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, TypeVar

import msgspec
from msgspec import Struct

from sendtrace.simulator.webhook import Api

# (status, code), codes 0, empty and absent as "".
Fact = tuple[str, str]


class Standing(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Where a message stands: its outcome, flags and cost. Of money: units of 1e-8."""

    outcome: str
    is_final: bool = False
    flags: tuple[str, ...] = ()  # must be there, sorted
    possible: tuple[str, ...] = ()  # may be there: it depends on which clock was quicker
    code: str | None = None
    cost_units: int | None = None
    currency: str | None = None
    cost_source: str | None = None  # event or estimate; not asked of a cost of 0


class Message(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="line",
              tag="message"):  # fmt: skip
    """One message. Names are those of the lifecycle's summary; None: it must not be known."""

    message_id: str
    api: Api | Literal["sms_or_alerts"]
    planned_at_us: int
    channel: str | None = None
    account: str | None = None
    country: str | None = None
    network: str | None = None  # the final one, else the estimated one
    send_id: str | None = None  # None: no send, or its id is the edge's to choose
    part: int = 1
    parts: int = 1
    workflow_id: str | None = None
    told: Standing
    settled: Standing
    settles_at_us: int | None = None  # the final deadline; None: nothing is waited for
    facts: tuple[Fact, ...] = ()
    carrier_latency_ms: int | None = None
    deliver_latency_ms: int | None = None
    accept_latency_ms: int | None = None
    read_latency_ms: int | None = None

    def standings(self, now_us: int, slack_us: int = 0) -> tuple[Standing, ...]:
        """What may be found at ``now_us``, if it is complete: both within ``slack_us`` after the
        deadline (the joiner's grace, a retry of the send, gaps without an edge)."""
        return _standings(self.told, self.settled, self.settles_at_us, now_us, slack_us)


class RollupStanding(Struct, frozen=True, omit_defaults=True, kw_only=True):
    outcome: str
    also: tuple[str, ...] = ()  # outcomes that would be right as well: a tie
    delivered: int = 0
    costs: tuple[tuple[str, int], ...] = ()  # by currency


class Rollup(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="line",
             tag="rollup"):  # fmt: skip
    """A send with several messages: the parts of a text, or the items of a failover."""

    id: str  # workflow_id, else send_id
    kind: Literal["parts", "failover"]
    message_ids: tuple[str, ...]
    told: RollupStanding
    settled: RollupStanding
    settles_at_us: int | None = None

    def standings(self, now_us: int, slack_us: int = 0) -> tuple[RollupStanding, ...]:
        """As for a message. Within the slack its messages may settle one after the other, and
        anything between the two may be found."""
        return _standings(self.told, self.settled, self.settles_at_us, now_us, slack_us)


class Inbound(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="line",
              tag="inbound"):  # fmt: skip
    """A message that came in, or one part of it."""

    message_id: str
    api: Api
    channel: str
    account: str | None = None
    planned_at_us: int


class Run(Struct, frozen=True, kw_only=True, tag_field="line", tag="run"):
    """What the lines after it were made by."""

    scenario: str
    seed: int
    rate: float
    time_scale: float
    started_at_us: int


class Complete(Struct, frozen=True, kw_only=True, tag_field="line", tag="complete"):
    """The edge accepted all of these."""

    ids: tuple[str, ...]


Line = Message | Rollup | Inbound | Run | Complete
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


S = TypeVar("S", Standing, RollupStanding)


def _standings(
    told: S, settled: S, settles_at_us: int | None, now_us: int, slack_us: int
) -> tuple[S, ...]:
    if settles_at_us is None or told == settled or now_us < settles_at_us:
        return (told,)
    return (settled,) if now_us > settles_at_us + slack_us else (told, settled)


@dataclass
class Book:
    """A ledger as read. ``complete`` has the ids of everything that the edge has accepted."""

    runs: list[Run] = field(default_factory=list)
    messages: dict[str, Message] = field(default_factory=dict)
    rollups: dict[str, Rollup] = field(default_factory=dict)
    inbound: dict[str, Inbound] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)

    @property
    def ids(self) -> set[str]:
        return {*self.messages, *self.rollups, *self.inbound}

    @property
    def cut_short(self) -> set[str]:
        """What was announced and not seen through."""
        return self.ids - self.complete


class Ledger:
    """Appends. A line has reached the operating system when a method returns."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def announce(self, lines: Sequence[Message | Rollup | Inbound | Run]) -> None:
        """Say what is about to be sent. Call before sending any of it."""
        self._append(lines)

    def complete(self, ids: Sequence[str]) -> None:
        """Say that the edge accepted all of it."""
        self._append([Complete(ids=tuple(ids))])

    def _append(self, lines: Sequence[Line]) -> None:
        if lines:
            self._file.write(b"".join([_encode(line) + b"\n" for line in lines]))


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Open for appending."""
    with open_lines(path) as file:
        yield Ledger(file)


@contextmanager
def open_lines(path: Path) -> Iterator[IO[bytes]]:
    """A file for lines that reach the system at once. A line that a killed process left half
    written is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        yield file


def read_ledger(path: Path) -> Book:
    """Everything that the ledger says. Of an id that was planned twice the later plan holds."""
    book = Book()
    for line in read_lines(path, _decode):
        match line:
            case Message():
                book.messages[line.message_id] = line
                book.complete.discard(line.message_id)
            case Rollup():
                book.rollups[line.id] = line
                book.complete.discard(line.id)
            case Inbound():
                book.inbound[line.message_id] = line
                book.complete.discard(line.message_id)
            case Run():
                book.runs.append(line)
            case Complete():
                book.complete.update(line.ids)
    return book


L = TypeVar("L")


def read_lines(path: Path, decode: Callable[[bytes], L]) -> Iterator[L]:
    """Without those that a kill cut off: such a plan was never sent, and such a completion asks
    less than could be asked. Raises msgspec.ValidationError for a line of another kind."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield decode(line)
            except msgspec.ValidationError:
                raise
            except msgspec.DecodeError:
                continue
