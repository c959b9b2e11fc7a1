"""Looks a message up: its row and facts in the warehouse, else its lifecycle in the topic.

Both come out as the columns of the warehouse, in the units of a lifecycle: integers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import asyncpg
from msgspec import Struct

from schemas.codec import decode_lifecycle, header
from schemas.lifecycle import Lifecycle
from schemas.numbers import MONEY_UNITS
from schemas.topics import LIFECYCLES, partition_of
from sendtrace.runtime.kafka import Clients, Partition, Record
from sendtrace.runtime.reading import open_reader, read_until
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import DependencyAway
from sinks.postgres import SchemaMissing, WarehouseAway, short_session
from sinks.rows import EVENTS, INBOUND, MESSAGES, Table, Version, event_rows, row_of

# A partition of the topic is read whole: a minute is millions of lifecycles.
SCAN_TIMEOUT_SECONDS = 60.0
LIST_LIMIT = 20

Columns = Mapping[str, Any]


class Found(Struct, kw_only=True):
    """What is known. Without a ``row`` the message was erased, came in, or is a send's."""

    message_id: str
    source: Literal["warehouse", "topic"]
    row: Columns | None = None
    events: list[Columns] = []
    candidates: list[Columns] = []
    erased_at_us: int | None = None
    is_forgotten: bool = False
    due_at_us: int | None = None  # when silence counts, where it is still awaited
    inbound: list[Columns] = []
    of_send: list[str] = []  # ids of the messages of a send whose id was given


async def find(clients: Clients, settings: Settings, message_id: str) -> Found | None:
    """The message, or None. Raises DependencyAway where neither store can tell."""
    try:
        found = await _in_warehouse(settings, message_id)
    except (WarehouseAway, SchemaMissing):
        found = None
    if found is None:
        return await _in_topic(clients, settings, message_id)
    if found.row is not None and found.row["is_open"]:
        found.due_at_us = await _due(clients, settings, found.row)
    return found


async def _in_warehouse(settings: Settings, message_id: str) -> Found | None:
    async with short_session(settings.postgres_dsn, "sendtrace explain") as connection:
        rows = await _rows(connection, MESSAGES, "message_id = $1", message_id)
        if rows:
            events = await _rows(connection, EVENTS, "message_id = $1", message_id)
            found = Found(message_id=message_id, source="warehouse", row=rows[0], events=events)
            if rows[0]["outcome"] == "unanswered":
                found.candidates = await _candidates(connection, message_id)
            return found
        inbound = await _rows(connection, INBOUND, "message_id = $1", message_id)
        of_send = await connection.fetch(
            "select message_id from messages where send_id = $1 order by part limit $2",
            message_id,
            LIST_LIMIT,
        )
    if not inbound and not of_send:
        return None
    ids = [row["message_id"] for row in of_send]
    return Found(message_id=message_id, source="warehouse", inbound=inbound, of_send=ids)


async def _rows(
    connection: asyncpg.Connection, table: Table, condition: str, value: str
) -> list[Columns]:
    columns = ", ".join(table.names)
    query = f"select {columns} from {table.name} where {condition} limit 100"  # noqa: S608
    return [_plain(row) for row in await connection.fetch(query, value)]


async def _candidates(connection: asyncpg.Connection, message_id: str) -> list[Columns]:
    """The view says which message an unanswered one may have become: a guess."""
    rows = await connection.fetch(
        "select candidate_id, first_event_at, candidate_outcome from unanswered_candidates "
        "where unanswered_id = $1 limit 10",
        message_id,
    )
    return [_plain(row) for row in rows]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _plain(row: asyncpg.Record) -> Columns:
    return {name: _value(value) for name, value in row.items()}


def _value(value: object) -> object:
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, Decimal):
        return int(value * MONEY_UNITS)
    return value


async def _due(clients: Clients, settings: Settings, row: Columns) -> int | None:
    """The next deadline, from the record that the row was made of; None if that is gone."""
    at = Partition(settings.topic(LIFECYCLES), row["source_partition"])
    offset: int = row["source_offset"]
    try:
        async with asyncio.timeout(SCAN_TIMEOUT_SECONDS), open_reader(clients, [at]) as reader:
            begins, ends = await reader.beginning_offsets([at]), await reader.end_offsets([at])
            if not begins[at] <= offset < ends[at]:
                return None
            reader.seek(at, offset)
            async for _, records in read_until(reader, {at: offset + 1}):
                return _due_of(records[0], row["message_id"])
    except (TimeoutError, DependencyAway):
        pass  # the rest is worth telling without it
    return None


def _due_of(record: Record, message_id: str) -> int | None:
    if record.key != message_id.encode() or record.value is None:
        return None
    return decode_lifecycle(record.value).due_at_us


async def _in_topic(clients: Clients, settings: Settings, message_id: str) -> Found | None:
    """The latest record of the message; its partition is read whole."""
    key = message_id.encode()
    at = Partition(settings.topic(LIFECYCLES), partition_of(key, settings.partitions))
    last: Record | None = None
    try:
        async with asyncio.timeout(SCAN_TIMEOUT_SECONDS), open_reader(clients, [at]) as reader:
            async for _, records in read_until(reader, await reader.end_offsets([at])):
                last = _latest(records, key) or last
    except TimeoutError as error:
        raise DependencyAway(
            "The topic could not be read through in a minute: start the warehouse, and ask again"
        ) from error
    if last is None:
        return None
    if last.value is None:
        if header(last.headers, "reason") == "expired":
            return None
        return Found(message_id=message_id, source="topic", is_forgotten=True)
    return of_lifecycle(decode_lifecycle(last.value))


def _latest(records: Iterable[Record], key: bytes) -> Record | None:
    found = None
    for record in records:
        if record.key == key:
            found = record
    return found


def of_lifecycle(lifecycle: Lifecycle) -> Found:
    """As its row would tell it."""
    message_id = lifecycle.message_id
    if lifecycle.erased or lifecycle.summary is None:
        erased_at_us = lifecycle.erased_at_us
        return Found(message_id=message_id, source="topic", erased_at_us=erased_at_us)
    row = dict(zip(MESSAGES.names, row_of(lifecycle, Version(0, 0, 0)), strict=True))
    return Found(
        message_id=message_id,
        source="topic",
        row=row,
        events=[dict(zip(EVENTS.names, each, strict=True)) for each in event_rows(lifecycle)],
        due_at_us=lifecycle.due_at_us if row["is_open"] else None,
    )
