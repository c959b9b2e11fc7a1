"""From records of ``lifecycles`` to what they change in ``messages``. Pure.

1. A lifecycle becomes the message's row.
2. An erased lifecycle deletes it, and so does a tombstone: the message was forgotten.
3. A tombstone that says ``expired`` changes nothing: the row outlives its lifecycle.
4. What cannot be used goes to quarantine, with the reason; the rest of its batch goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from schemas.codec import decode_lifecycle, header
from schemas.lifecycle import FORMAT
from sinks.rows import Row, Version, fits, row_of


class RowReason(StrEnum):
    """Why a record of ``lifecycles`` makes no row: the header ``reason`` of what is quarantined."""

    KEY = "lifecycle without a usable key"
    UNDECODABLE = "lifecycle cannot be decoded"
    NEWER_FORMAT = "lifecycle of a newer format"
    OTHER_KEY = "lifecycle under another message's key"
    NO_SUMMARY = "lifecycle without a summary"
    OUT_OF_RANGE = "lifecycle with a value that the database cannot hold"


class Deletion(NamedTuple):
    """The message was forgotten: its row goes, unless a later record made it."""

    message_id: str
    version: Version


class Unusable(NamedTuple):
    """The record goes to quarantine, as it is."""

    reason: RowReason


KEEP = None  # what `expired` changes: nothing, the row outlives its lifecycle

Change = Row | Deletion | Unusable | None


def change_of(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    version: Version,
) -> Change:
    """What a record changes: a row to write, a deletion, nothing, or unusable."""
    if value is None:
        return _of_tombstone(key, headers, version)
    try:
        lifecycle = decode_lifecycle(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Unusable(RowReason.UNDECODABLE)
    if lifecycle.v > FORMAT:
        return Unusable(RowReason.NEWER_FORMAT)
    if lifecycle.message_id.encode() != key:
        return Unusable(RowReason.OTHER_KEY)
    if lifecycle.erased:
        return _deletion(lifecycle.message_id, version)
    if lifecycle.summary is None:
        return Unusable(RowReason.NO_SUMMARY)
    row = row_of(lifecycle, version)
    return row if fits(row) else Unusable(RowReason.OUT_OF_RANGE)


def _of_tombstone(
    key: bytes | None, headers: Sequence[tuple[str, bytes]], version: Version
) -> Change:
    try:
        message_id = (key or b"").decode()
    except UnicodeDecodeError:
        return Unusable(RowReason.KEY)
    change = _deletion(message_id, version)
    is_expired = header(headers, "reason") == "expired"
    return KEEP if is_expired and isinstance(change, Deletion) else change


def _deletion(message_id: str, version: Version) -> Change:
    """An id that cannot be in the table would fail the statement, and with it its batch."""
    if not message_id or "\0" in message_id:
        return Unusable(RowReason.KEY)
    return Deletion(message_id, version)


class Batch:
    """What was fed since the last write: for each message its last change.

    A message stands in it once: the database refuses to write one row twice in a statement.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.deletions: dict[str, Deletion] = {}
        self.fed = 0

    def add(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        version: Version,
    ) -> Unusable | None:
        """Take a record in; answers why when it is of no use (the caller keeps it)."""
        self.fed += 1
        change = change_of(key, value, headers, version)
        if type(change) is tuple:
            message_id: str = change[0]  # type: ignore[assignment]
            self.rows[message_id] = change
            self.deletions.pop(message_id, None)
        elif isinstance(change, Deletion):
            self.deletions[change.message_id] = change
            self.rows.pop(change.message_id, None)
        elif isinstance(change, Unusable):
            return change
        return None
