"""Rows of ``messages``: which columns there are, the row of a lifecycle, and what a row may hold.
Pure.

Times and money stay the integers of the record (microseconds, 1e-8 units): the database turns them
into its own types, exactly.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Literal, NamedTuple

from schemas.lifecycle import Lifecycle

Row = tuple[object, ...]  # in the order of COLUMNS

# Longer than any text that is kept (schemas/events.py). A row with a longer one would not fit into
# an index entry (2,704 bytes), and fail its batch.
TEXT_LIMIT = 600
MAX_INTEGER = 2**31 - 1
MAX_BIGINT = 2**63 - 1
MAX_MONEY_UNITS = 10**18 - 1  # numeric(18, 8)
# The years 1 to 9999: what a header or a client's time can say, and what readers can take.
MIN_TIME_US = -62_135_596_800_000_000
MAX_TIME_US = 253_402_300_799_999_999


class Column(NamedTuple):
    """A column of ``messages``; ``kind`` tells how its value in a row becomes the stored one."""

    name: str
    kind: Literal["text", "integer", "bigint", "boolean", "time_us", "money_units", "texts"]
    field: str = ""  # of the send or the summary, where it is not called as the column is


# Of the send alone. Without one nobody knows, and `part` is not 1.
SEND_COLUMNS: tuple[Column, ...] = (
    Column("send_id", "text"),
    Column("part", "integer"),
    Column("parts", "integer"),
    Column("application", "text"),
    Column("encoding", "text"),
    Column("message_class", "integer"),
    Column("pool_id", "text"),
    Column("entity_id", "text"),
    Column("content_id", "text"),
    Column("template", "text"),
    Column("balance", "money_units", "balance_units"),
)
SUMMARY_COLUMNS: tuple[Column, ...] = (
    Column("workflow_id", "text"),
    Column("workflow_item", "integer"),
    Column("workflow_items", "integer"),
    Column("api", "text"),
    Column("channel", "text"),
    Column("account", "text"),
    Column("traffic", "text"),
    Column("sender", "text"),
    Column("recipient", "text"),
    Column("country", "text"),
    Column("client_ref", "text"),
    Column("outcome", "text"),
    Column("is_final", "boolean"),
    Column("is_open", "boolean"),
    Column("outcome_at", "time_us", "outcome_at_us"),
    Column("outcome_clock", "text"),
    Column("answer", "text"),
    Column("answer_status", "text"),
    Column("receipt_expected", "boolean"),
    Column("sent_at", "time_us", "sent_at_us"),
    Column("send_clock", "text"),
    Column("submitted_at", "time_us", "submitted_at_us"),
    Column("delivered_at", "time_us", "delivered_at_us"),
    Column("read_at", "time_us", "read_at_us"),
    Column("carrier_latency_ms", "bigint"),
    Column("deliver_latency_ms", "bigint"),
    Column("accept_latency_ms", "bigint"),
    Column("read_latency_ms", "bigint"),
    Column("callback_latency_ms", "bigint"),
    Column("ingest_lag_ms", "bigint"),
    Column("status_last", "text"),
    Column("code", "text"),
    Column("category", "text"),
    Column("error_instance", "text"),
    Column("segments", "integer"),
    Column("network_estimated", "text"),
    Column("network_final", "text"),
    Column("cost", "money_units", "cost_units"),
    Column("currency", "text"),
    Column("currency_source", "text"),
    Column("cost_source", "text"),
    Column("estimate", "money_units", "estimate_units"),
    Column("first_event_at", "time_us", "first_event_at_us"),
    Column("last_event_at", "time_us", "last_event_at_us"),
    Column("flags", "texts"),
)
# `direction` is not among them: what has a lifecycle was sent, and that is the column's default.
COLUMNS: tuple[Column, ...] = (
    Column("message_id", "text"),
    *SEND_COLUMNS,
    *SUMMARY_COLUMNS,
    Column("topic_epoch", "bigint"),
    Column("source_partition", "integer"),
    Column("source_offset", "bigint"),
)
NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)

_BOUNDS = {
    "integer": (-MAX_INTEGER, MAX_INTEGER),
    "bigint": (-MAX_BIGINT, MAX_BIGINT),
    "time_us": (MIN_TIME_US, MAX_TIME_US),
    "money_units": (-MAX_MONEY_UNITS, MAX_MONEY_UNITS),
}
_BOUNDS_OF_COLUMN = tuple([_BOUNDS.get(column.kind, (0, 0)) for column in COLUMNS])

_of_send = attrgetter(*[column.field or column.name for column in SEND_COLUMNS])
_of_summary = attrgetter(*[column.field or column.name for column in SUMMARY_COLUMNS])
_WITHOUT_SEND = (None,) * len(SEND_COLUMNS)


class Version(NamedTuple):
    """Which record a row is from. Later ones win: (epoch, offset), within the partition."""

    topic_epoch: int
    partition: int
    offset: int


def row_of(lifecycle: Lifecycle, version: Version) -> Row:
    """The row of a lifecycle that has a summary."""
    send = lifecycle.send
    sent = _WITHOUT_SEND if send is None else _of_send(send)
    return (lifecycle.message_id, *sent, *_of_summary(lifecycle.summary), *version)


def fits(row: Row) -> bool:
    """Whether the database can hold every value: one that it cannot would fail its whole batch.

    A check by type, since it is in the path of every row: text without NUL and short enough for an
    index, numbers within their column.
    """
    for value, (low, high) in zip(row, _BOUNDS_OF_COLUMN, strict=True):
        if value is None:
            continue
        kind = type(value)
        if kind is str:
            if len(value) > TEXT_LIMIT or "\0" in value:  # type: ignore[arg-type,operator]
                return False
        elif kind is int:
            if not low <= value <= high:  # type: ignore[operator]
                return False
        elif kind is tuple and not fits_texts(value):  # type: ignore[arg-type]
            return False
    return True


def fits_texts(texts: tuple[str, ...]) -> bool:
    return all(len(text) <= TEXT_LIMIT and "\0" not in text for text in texts)
