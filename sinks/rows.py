"""Rows of the warehouse's tables: which columns each has, how a row is made from what a topic
says, and what a row may hold. Pure.

Times and money stay the integers of the record (microseconds, 1e-8 units): the database turns them
into its own types, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Literal, NamedTuple

from schemas.events import Inbound
from schemas.lifecycle import Lifecycle
from schemas.phones import country_of
from schemas.rollup import Rollup

Row = tuple[object, ...]  # in the order of its table's columns

# Longer than any text that is kept (schemas/events.py). A row with a longer one would not fit into
# an index entry (2,704 bytes), and fail its batch.
TEXT_LIMIT = 600
# The text of an inbound message stands in no index; the edge takes no longer body.
LONG_TEXT_LIMIT = 2**20
MAX_INTEGER = 2**31 - 1
MAX_BIGINT = 2**63 - 1
MAX_MONEY_UNITS = 10**18 - 1  # numeric(18, 8)
# The years 1 to 9999: what a header or a client's time can say, and what readers can take.
MIN_TIME_US = -62_135_596_800_000_000
MAX_TIME_US = 253_402_300_799_999_999

Kind = Literal[
    "text", "long_text", "integer", "bigint", "boolean", "time_us", "money_units", "texts"
]


class Column(NamedTuple):
    """A column; ``kind`` tells how its value in a row becomes the stored one."""

    name: str
    kind: Kind
    field: str = ""  # of the struct it is read from, where it is not called as the column is


_BOUNDS: dict[Kind, tuple[int, int]] = {
    "text": (0, TEXT_LIMIT),
    "texts": (0, TEXT_LIMIT),
    "long_text": (0, LONG_TEXT_LIMIT),
    "integer": (-MAX_INTEGER, MAX_INTEGER),
    "bigint": (-MAX_BIGINT, MAX_BIGINT),
    "time_us": (MIN_TIME_US, MAX_TIME_US),
    "money_units": (-MAX_MONEY_UNITS, MAX_MONEY_UNITS),
    "boolean": (0, 1),
}


class Table:
    """A table that the loader writes: its columns, in the order of its rows, and its key."""

    def __init__(self, name: str, key: tuple[str, ...], columns: Iterable[Column]) -> None:
        self.name = name
        self.key = key
        self.columns = tuple(columns)
        self.names = tuple([column.name for column in self.columns])
        self._bounds = tuple([_BOUNDS[column.kind] for column in self.columns])

    def fits(self, row: Row) -> bool:
        """Whether the database can hold every value: one that it cannot fails its whole batch.

        A check by type, since it is in the path of every row: text without NUL and short enough for
        an index, numbers within their column.
        """
        for value, (low, high) in zip(row, self._bounds, strict=True):
            if value is None:
                continue
            kind = type(value)
            if kind is str:
                if len(value) > high or "\0" in value:  # type: ignore[arg-type,operator]
                    return False
            elif kind is int:
                if not low <= value <= high:  # type: ignore[operator]
                    return False
            elif kind is tuple and not _fits_texts(value, high):  # type: ignore[arg-type]
                return False
        return True


def _fits_texts(texts: tuple[str, ...], limit: int) -> bool:
    return all(len(text) <= limit and "\0" not in text for text in texts)


def _of(columns: Iterable[Column]) -> attrgetter[tuple[object, ...]]:
    return attrgetter(*[column.field or column.name for column in columns])


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
VERSION_COLUMNS: tuple[Column, ...] = (
    Column("topic_epoch", "bigint"),
    Column("source_partition", "integer"),
    Column("source_offset", "bigint"),
)
# `direction` is not among them: what has a lifecycle was sent, and that is the column's default.
MESSAGES = Table(
    "messages",
    ("message_id",),
    (
        Column("message_id", "text"),
        Column("fragment", "boolean"),
        *SEND_COLUMNS,
        *SUMMARY_COLUMNS,
        *VERSION_COLUMNS,
    ),
)
FRAGMENT = 1  # where `fragment` stands, in `rollups` too

FACT_COLUMNS: tuple[Column, ...] = (
    Column("kind", "text"),
    Column("status", "text"),
    Column("code", "text"),
    Column("segment", "text"),
    Column("account", "text"),
    Column("arrived_at", "time_us", "arrived_at_us"),
    Column("provider_at", "time_us", "provider_at_us"),
    Column("api", "text"),
    Column("version", "text"),
    Column("channel", "text"),
    Column("network", "text"),
    Column("price", "money_units", "price_units"),
    Column("currency", "text"),
    Column("segments", "integer"),
    Column("error_title", "text"),
    Column("error_instance", "text"),
    Column("pricing_type", "text"),
    Column("pricing_model", "text"),
    Column("pricing_category", "text"),
    Column("after_refusal", "boolean"),
)
# No version of its own: a message's facts change with its row in `messages`.
EVENTS = Table(
    "message_events",
    ("message_id", "kind", "status", "code", "segment", "account"),
    (Column("message_id", "text"), *FACT_COLUMNS),
)

ROLLUP_COLUMNS: tuple[Column, ...] = (
    Column("outcome", "text"),
    Column("is_final", "boolean"),
    Column("is_open", "boolean"),
    Column("outcome_at", "time_us", "outcome_at_us"),
    Column("known", "integer"),
    Column("expected", "integer"),
    Column("delivered", "integer"),
    Column("decided_by", "text"),
    Column("worst", "text"),
    Column("last_delivered_at", "time_us", "last_delivered_at_us"),
    Column("slowest_carrier_latency_ms", "bigint"),
    Column("sent_at", "time_us", "sent_at_us"),
    Column("api", "text"),
    Column("channel", "text"),
    Column("account", "text"),
    Column("traffic", "text"),
    Column("truncated", "boolean"),
)
ROLLUPS = Table(
    "rollups",
    ("id",),
    (
        Column("id", "text"),
        Column("fragment", "boolean"),
        Column("kind", "text"),
        Column("send_id", "text"),
        *ROLLUP_COLUMNS,
        Column("cost", "money_units"),
        Column("currency", "text"),
        *VERSION_COLUMNS,
    ),
)

INBOUND_COLUMNS: tuple[Column, ...] = (
    Column("concat_ref", "text"),
    Column("concat_total", "integer"),
    Column("api", "text"),
    Column("version", "text"),
    Column("channel", "text"),
    Column("sender", "text"),
    Column("recipient", "text"),
    Column("arrived_at", "time_us", "arrived_at_us"),
    Column("provider_at", "time_us", "provider_at_us"),
    Column("message_type", "text"),
    Column("encoding", "text"),
    Column("text_length", "integer"),
    Column("data_length", "integer"),
    Column("segments", "integer"),
    Column("keyword_class", "text"),
    Column("network", "text"),
    Column("cost", "money_units", "price_units"),
    Column("client_ref", "text"),
    Column("reply_to", "text"),
)
INBOUND = Table(
    "inbound",
    ("message_id", "part"),
    (
        Column("message_id", "text"),
        Column("part", "integer"),
        Column("account", "text"),
        *INBOUND_COLUMNS,
        Column("currency", "text"),
        Column("currency_source", "text"),
        Column("country", "text"),
        Column("traffic", "text"),
        Column("text", "long_text"),
        *VERSION_COLUMNS,
    ),
)
TABLES: tuple[Table, ...] = (MESSAGES, EVENTS, ROLLUPS, INBOUND)

_of_send = _of(SEND_COLUMNS)
_of_summary = _of(SUMMARY_COLUMNS)
_of_fact = _of(FACT_COLUMNS)
_of_rollup = _of(ROLLUP_COLUMNS)
_of_inbound = _of(INBOUND_COLUMNS)
_WITHOUT_SEND = (None,) * len(SEND_COLUMNS)
# What an overdue deadline and a request to revoke leave empty: all after `arrived_at`.
_NO_WEBHOOK = (*[None] * (len(FACT_COLUMNS) - 7), False)


class Version(NamedTuple):
    """Which record a row is from. Later ones win: (epoch, offset), within the partition."""

    topic_epoch: int
    partition: int
    offset: int


class InboundReading(NamedTuple):
    """What settings say about inbound messages."""

    keep_text: bool = False
    default_currency: str = "EUR"
    currencies: Mapping[str, str] = MappingProxyType({})  # of accounts that have their own
    test_accounts: frozenset[str] = frozenset()


def row_of(lifecycle: Lifecycle, version: Version) -> Row:
    """The row of a lifecycle that has a summary."""
    send = lifecycle.send
    sent = _WITHOUT_SEND if send is None else _of_send(send)
    of_summary = _of_summary(lifecycle.summary)
    return (lifecycle.message_id, lifecycle.fragment, *sent, *of_summary, *version)


def event_rows(lifecycle: Lifecycle) -> tuple[Row, ...]:
    """A row for each fact but the send, which stands in the message's own row."""
    message_id = lifecycle.message_id
    rows: list[Row] = [(message_id, *_of_fact(fact)) for fact in lifecycle.facts]
    rows += [_own_event(message_id, "overdue", each.kind, each.at_us) for each in lifecycle.overdue]
    if lifecycle.revoke_requested_at_us is not None:
        at_us = lifecycle.revoke_requested_at_us
        rows.append(_own_event(message_id, "revoke_requested", "", at_us))
    return tuple(rows)


def _own_event(message_id: str, kind: str, status: str, at_us: int) -> Row:
    """A fact that no webhook told."""
    return (message_id, kind, status, "", "", "", at_us, *_NO_WEBHOOK)


def rollup_row(rollup: Rollup, version: Version) -> Row:
    """The row of a rollup that has a summary. Money of two currencies is never added."""
    summary = rollup.summary
    assert summary is not None
    send_id = next((item.part.send_id for item in rollup.items if item.part.send_id), None)
    currency, cost = summary.costs[0] if len(summary.costs) == 1 else (None, None)
    of_summary = _of_rollup(summary)
    head = (rollup.id, rollup.fragment, rollup.kind, send_id)
    return (*head, *of_summary, cost, currency, *version)


def inbound_row(inbound: Inbound, reading: InboundReading, version: Version) -> Row:
    """The row of an inbound message, or of one part of it."""
    currency, source = inbound.currency, "field"
    if inbound.price_units is None:
        currency = source = None  # type: ignore[assignment]
    elif currency is None:
        currency = reading.currencies.get(inbound.account, reading.default_currency)
        source = "default"
    text = inbound.text
    if text is not None and "\0" in text:
        text = text.replace("\0", "")  # PostgreSQL has no text with it
    return (
        inbound.message_id,
        inbound.concat_part or 1,
        inbound.account or None,
        *_of_inbound(inbound),
        currency,
        source,
        country_of(inbound.sender, inbound.channel),
        "test" if inbound.account in reading.test_accounts else "live",
        text,
        *version,
    )
