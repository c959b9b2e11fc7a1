"""From records of ``lifecycles`` to rows of ``messages``: what a record changes. Pure.

Times and money stay the integers of the record (microseconds, 1e-8 units): the database turns them
into its own types, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

from schemas.codec import TYPE_QUARANTINE, Headers, decode_lifecycle, header
from schemas.lifecycle import FORMAT, Lifecycle

Row = tuple[object, ...]  # in the order of COLUMNS

# A row with a longer text would not fit into an index entry (2,704 bytes), and fail its batch.
TEXT_LIMIT = 600
MAX_INTEGER = 2**31 - 1
MAX_BIGINT = 2**63 - 1
MAX_MONEY_UNITS = 10**18 - 1  # numeric(18, 8)
MAX_TIME_US = 210_000_000_000_000_000  # 4684 BC to 8624


class Column(NamedTuple):
    """A column of ``messages``; ``kind`` tells how its value in a row becomes the stored one."""

    name: str
    kind: Literal["text", "integer", "bigint", "boolean", "time_us", "money_units", "texts"]


COLUMNS: tuple[Column, ...] = (
    Column("message_id", "text"),
    Column("send_id", "text"),
    Column("part", "integer"),
    Column("parts", "integer"),
    Column("workflow_id", "text"),
    Column("api", "text"),
    Column("channel", "text"),
    Column("account", "text"),
    Column("sender", "text"),
    Column("recipient", "text"),
    Column("client_ref", "text"),
    Column("outcome", "text"),
    Column("is_final", "boolean"),
    Column("outcome_at", "time_us"),
    Column("sent_at", "time_us"),
    Column("submitted_at", "time_us"),
    Column("delivered_at", "time_us"),
    Column("read_at", "time_us"),
    Column("carrier_latency_ms", "bigint"),
    Column("status_last", "text"),
    Column("code", "text"),
    Column("error_instance", "text"),
    Column("segments", "integer"),
    Column("network_estimated", "text"),
    Column("network_final", "text"),
    Column("cost", "money_units"),
    Column("currency", "text"),
    Column("currency_source", "text"),
    Column("cost_source", "text"),
    Column("first_event_at", "time_us"),
    Column("last_event_at", "time_us"),
    Column("flags", "texts"),
    Column("receipt_expected", "boolean"),
    Column("topic_epoch", "bigint"),
    Column("source_partition", "integer"),
    Column("source_offset", "bigint"),
)
NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)

_LIMITS = {
    "integer": MAX_INTEGER,
    "bigint": MAX_BIGINT,
    "time_us": MAX_TIME_US,
    "money_units": MAX_MONEY_UNITS,
}


class RowReason(StrEnum):
    """Why a record of ``lifecycles`` makes no row: the header ``reason`` of what is quarantined."""

    KEY = "lifecycle without a usable key"
    UNDECODABLE = "lifecycle cannot be decoded"
    NEWER_FORMAT = "lifecycle of a newer format"
    OTHER_KEY = "lifecycle under another message's key"
    NO_SUMMARY = "lifecycle without a summary"
    OUT_OF_RANGE = "lifecycle with a value that the database cannot hold"


class Version(NamedTuple):
    """Which record a row is from. Later ones win: (epoch, offset), within the partition."""

    topic_epoch: int
    partition: int
    offset: int


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
    if lifecycle.summary is None:
        return Unusable(RowReason.NO_SUMMARY)
    row = row_of(lifecycle, version)
    return row if fits(row) else Unusable(RowReason.OUT_OF_RANGE)


def _of_tombstone(
    key: bytes | None, headers: Sequence[tuple[str, bytes]], version: Version
) -> Change:
    if not key or b"\0" in key:
        return Unusable(RowReason.KEY)
    if header(headers, "reason") == "expired":
        return KEEP
    try:
        return Deletion(key.decode(), version)
    except UnicodeDecodeError:
        return Unusable(RowReason.KEY)


def row_of(lifecycle: Lifecycle, version: Version) -> Row:
    """The row of a lifecycle that has a summary."""
    s = lifecycle.summary
    assert s is not None
    send = lifecycle.send
    send_id, part, parts, receipt_expected = (
        (None, None, None, None)
        if send is None
        else (send.send_id, send.part, send.parts, send.receipt_expected)
    )
    return (
        lifecycle.message_id, send_id, part, parts, s.workflow_id, s.api, s.channel, s.account,
        s.sender, s.recipient, s.client_ref, s.outcome, s.is_final, s.outcome_at_us, s.sent_at_us,
        s.submitted_at_us, s.delivered_at_us, s.read_at_us, s.carrier_latency_ms, s.status_last,
        s.code, s.error_instance, s.segments, s.network_estimated, s.network_final, s.cost_units,
        s.currency, s.currency_source, s.cost_source, s.first_event_at_us, s.last_event_at_us,
        s.flags, receipt_expected, *version,
    )  # fmt: skip


def fits(row: Row) -> bool:
    """Whether the database can hold every value: one that it cannot would fail its whole batch.

    A check by type, since it is in the path of every row: text without NUL and short enough for an
    index, numbers within their column.
    """
    for value, limit in zip(row, _LIMIT_OF_COLUMN, strict=True):
        if value is None:
            continue
        kind = type(value)
        if kind is str:
            if len(value) > TEXT_LIMIT or "\0" in value:  # type: ignore[arg-type,operator]
                return False
        elif kind is int:
            if not -limit <= value <= limit:  # type: ignore[operator]
                return False
        elif kind is tuple and not fits_texts(value):  # type: ignore[arg-type]
            return False
    return True


def fits_texts(texts: tuple[str, ...]) -> bool:
    return all(len(text) <= TEXT_LIMIT and "\0" not in text for text in texts)


_LIMIT_OF_COLUMN: tuple[int, ...] = tuple(_LIMITS.get(column.kind, 0) for column in COLUMNS)


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


def quarantine_headers(
    headers: Sequence[tuple[str, bytes]], origin: str, reason: RowReason
) -> Headers:
    """The headers under which a record of no use is kept: its own, why, and where it stood."""
    added: Headers = [*headers, ("reason", reason.value.encode()), ("st_origin", origin.encode())]
    if header(headers, "ce_type") is None:
        added.append(("ce_type", TYPE_QUARANTINE.encode()))
    return added
