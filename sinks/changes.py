"""From records of the loaded topics to what they change in the tables. Pure.

1. A lifecycle becomes the message's row, and a row for each of its facts.
2. An erased lifecycle deletes them, and so does a tombstone: the message was forgotten.
3. A tombstone that says ``expired`` changes nothing: the row outlives its lifecycle.
4. A fragment (a lifecycle or a rollup begun after that) only adds to what is there.
5. A rollup becomes its row, and a tombstone does to it as to a message.
6. An inbound message, or a part of one, becomes a row; a repeat of it changes nothing.
7. What cannot be used goes to quarantine, with the reason; the rest of its batch goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from schemas.codec import decode_lifecycle, decode_rollup, header
from schemas.formats import UNREADABLE, NewerFormat
from schemas.topics import INBOUND as INBOUND_TOPIC
from schemas.topics import LIFECYCLES
from schemas.vonage.decode import Unusable as NotUnderstood
from schemas.vonage.decode import decode_inbound
from schemas.vonage.reasons import Reason
from sendtrace.runtime.kafka import Record
from sinks.fragments import OF_MESSAGES, OF_ROLLUPS, merged
from sinks.rows import (
    EVENTS,
    FRAGMENT,
    INBOUND,
    MESSAGES,
    ROLLUPS,
    InboundReading,
    Row,
    Version,
    event_rows,
    inbound_row,
    rollup_row,
    row_of,
)

_EVENT_KEY = len(EVENTS.key)  # the first columns

Headers = Sequence[tuple[str, bytes]]


class RowReason(StrEnum):
    """Why a record makes no row: the header ``reason`` of what is quarantined. For what an inbound
    message may lack there is ``schemas/vonage/reasons.py``."""

    KEY = "lifecycle without a usable key"
    UNDECODABLE = "lifecycle cannot be decoded"
    NEWER_FORMAT = "lifecycle of a newer format"
    OTHER_KEY = "lifecycle under another message's key"
    NO_SUMMARY = "lifecycle without a summary"
    OUT_OF_RANGE = "lifecycle with a value that the database cannot hold"
    ROLLUP_KEY = "rollup without a usable key"
    ROLLUP_UNDECODABLE = "rollup cannot be decoded"
    ROLLUP_NEWER_FORMAT = "rollup of a newer format"
    ROLLUP_OTHER_KEY = "rollup under another key"
    ROLLUP_NO_SUMMARY = "rollup without a summary"
    ROLLUP_OUT_OF_RANGE = "rollup with a value that the database cannot hold"
    INBOUND_OUT_OF_RANGE = "inbound message with a value that the database cannot hold"
    REFUSED = "the database refuses its row"


class Message(NamedTuple):
    """The row of a message, and those of its facts."""

    row: Row
    events: tuple[Row, ...]


class Deletion(NamedTuple):
    """It was forgotten: the row of this key goes, unless a later record made it."""

    key: str
    version: Version


class Unusable(NamedTuple):
    """The record goes to quarantine, as it is."""

    reason: str


KEEP = None  # what `expired` changes: nothing, the row outlives its lifecycle


def message_change(
    key: bytes | None, value: bytes | None, headers: Headers, version: Version
) -> Message | Deletion | Unusable | None:
    """What a record of ``lifecycles`` changes."""
    if value is None:
        return _of_tombstone(key, headers, version, RowReason.KEY)
    try:
        lifecycle = decode_lifecycle(value)
    except UNREADABLE:
        return Unusable(RowReason.UNDECODABLE)
    except NewerFormat:
        return Unusable(RowReason.NEWER_FORMAT)
    if lifecycle.message_id.encode() != key:
        return Unusable(RowReason.OTHER_KEY)
    if lifecycle.erased:
        return _deletion(lifecycle.message_id, version, RowReason.KEY)
    if lifecycle.summary is None:
        return Unusable(RowReason.NO_SUMMARY)
    row, events = row_of(lifecycle, version), event_rows(lifecycle)
    if MESSAGES.fits(row) and all(map(EVENTS.fits, events)):
        return Message(row, events)
    return Unusable(RowReason.OUT_OF_RANGE)


def rollup_change(
    key: bytes | None, value: bytes | None, headers: Headers, version: Version
) -> Row | Deletion | Unusable | None:
    """What a record of ``rollups`` changes."""
    if value is None:
        return _of_tombstone(key, headers, version, RowReason.ROLLUP_KEY)
    try:
        rollup = decode_rollup(value)
    except UNREADABLE:
        return Unusable(RowReason.ROLLUP_UNDECODABLE)
    except NewerFormat:
        return Unusable(RowReason.ROLLUP_NEWER_FORMAT)
    if rollup.id.encode() != key:
        return Unusable(RowReason.ROLLUP_OTHER_KEY)
    if rollup.summary is None:
        return Unusable(RowReason.ROLLUP_NO_SUMMARY)
    row = rollup_row(rollup, version)
    return row if ROLLUPS.fits(row) else Unusable(RowReason.ROLLUP_OUT_OF_RANGE)


def inbound_change(
    value: bytes | None, headers: Headers, append_at_us: int, reading: InboundReading, at: Version
) -> Row | Unusable:
    """What a record of ``inbound`` changes."""
    if value is None:
        return Unusable(Reason.EMPTY)
    inbound = decode_inbound(value, headers, append_at_us, keep_text=reading.keep_text)
    if isinstance(inbound, NotUnderstood):
        return Unusable(inbound.reason)
    row = inbound_row(inbound, reading, at)
    return row if INBOUND.fits(row) else Unusable(RowReason.INBOUND_OUT_OF_RANGE)


def _of_tombstone(
    key: bytes | None, headers: Headers, version: Version, unusable: RowReason
) -> Deletion | Unusable | None:
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        return Unusable(unusable)
    change = _deletion(text, version, unusable)
    is_expired = header(headers, "reason") == "expired"
    return KEEP if is_expired and isinstance(change, Deletion) else change


def _deletion(key: str, version: Version, unusable: RowReason) -> Deletion | Unusable:
    """A key that cannot be in the table would fail the statement, and with it its batch."""
    if not key or "\0" in key:
        return Unusable(unusable)
    return Deletion(key, version)


class Changes(NamedTuple):
    """What one write changes, in this order. Each key stands in its part at most once."""

    deletions: Sequence[Deletion] = ()  # of messages, and with them of their facts
    messages: Sequence[Row] = ()
    events: Sequence[Row] = ()  # of the messages above and no others
    rollup_deletions: Sequence[Deletion] = ()
    rollups: Sequence[Row] = ()
    inbound: Sequence[Row] = ()

    def halves(self) -> list[Changes]:
        """The same changes as two, or nothing where there is one row. The first is written last.

        What is forgotten goes with the half that is written first.
        """
        sizes = [len(self.messages), len(self.rollups), len(self.inbound)]
        if sum(sizes) + bool(self.deletions or self.rollup_deletions) < 2:
            return []
        at = [size // 2 for size in sizes]
        if not any(at):  # at most one of each kind: a kind of its own for the first
            at[next(kind for kind, size in enumerate(sizes) if size)] = 1
        of_first = {row[0] for row in self.messages[: at[0]]}
        first = Changes(
            messages=self.messages[: at[0]],
            events=[event for event in self.events if event[0] in of_first],
            rollups=self.rollups[: at[1]],
            inbound=self.inbound[: at[2]],
        )
        second = Changes(
            self.deletions,
            self.messages[at[0] :],
            [event for event in self.events if event[0] not in of_first],
            self.rollup_deletions,
            self.rollups[at[1] :],
            self.inbound[at[2] :],
        )
        return [first, second]


class Batch:
    """What was fed since the last write: for each key its last change.

    A key stands in it once: the database refuses to write one row twice in a statement. What is
    deleted and then begun anew is both: the new row must not take over what the old one knew.
    """

    def __init__(self, reading: InboundReading) -> None:
        self._reading = reading
        self._messages: dict[str, Message] = {}
        self._deletions: dict[str, Deletion] = {}
        self._rollups: dict[str, Row] = {}
        self._rollup_deletions: dict[str, Deletion] = {}
        self._inbound: dict[tuple[object, object], Row] = {}
        self.fed = 0

    def changes(self) -> Changes:
        messages = self._messages.values()
        return Changes(
            list(self._deletions.values()),
            [message.row for message in messages],
            [event for message in messages for event in message.events],
            list(self._rollup_deletions.values()),
            list(self._rollups.values()),
            list(self._inbound.values()),
        )

    def add(self, topic: str, record: Record, version: Version) -> Unusable | None:
        """Take a record in; answers why when it is of no use (the caller keeps it).

        ``topic`` is the name without prefix.
        """
        if topic == INBOUND_TOPIC:
            return self.add_inbound(record.value, record.headers, record.timestamp * 1000, version)
        add = self.add_lifecycle if topic == LIFECYCLES else self.add_rollup
        return add(record.key, record.value, record.headers, version)

    def add_lifecycle(
        self, key: bytes | None, value: bytes | None, headers: Headers, version: Version
    ) -> Unusable | None:
        self.fed += 1
        change = message_change(key, value, headers, version)
        kind = type(change)
        if kind is Message:
            self._add_message(change)  # type: ignore[arg-type]
        elif kind is Deletion:
            self._messages.pop(change.key, None)  # type: ignore[union-attr]
            self._deletions[change.key] = change  # type: ignore[union-attr,assignment]
        elif kind is Unusable:
            return change  # type: ignore[return-value]
        return None

    def _add_message(self, message: Message) -> None:
        message_id: str = message.row[0]  # type: ignore[assignment]
        if message.row[FRAGMENT]:
            known = self._messages.get(message_id)
            if known is not None:
                message = _added(known, message)
        self._messages[message_id] = message

    def add_rollup(
        self, key: bytes | None, value: bytes | None, headers: Headers, version: Version
    ) -> Unusable | None:
        self.fed += 1
        change = rollup_change(key, value, headers, version)
        if isinstance(change, Unusable):
            return change
        if isinstance(change, Deletion):
            self._rollups.pop(change.key, None)
            self._rollup_deletions[change.key] = change
        elif change is not None:
            rollup_id = str(change[0])
            known = self._rollups.get(rollup_id)
            if change[FRAGMENT] and known is not None:
                change = merged(OF_ROLLUPS, known, change)
            self._rollups[rollup_id] = change
        return None

    def add_inbound(
        self, value: bytes | None, headers: Headers, append_at_us: int, version: Version
    ) -> Unusable | None:
        self.fed += 1
        change = inbound_change(value, headers, append_at_us, self._reading, version)
        if isinstance(change, Unusable):
            return change
        self._inbound.setdefault((change[0], change[1]), change)  # the first to come stays
        return None


def _added(known: Message, fragment: Message) -> Message:
    """A fragment over what the batch has of its message already."""
    events = {event[:_EVENT_KEY]: event for event in (*known.events, *fragment.events)}
    return Message(merged(OF_MESSAGES, known.row, fragment.row), tuple(events.values()))
