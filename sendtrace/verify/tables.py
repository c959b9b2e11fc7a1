"""The warehouse against the topics it was loaded from: every column of every row. Pure.

A row is worked out from the record by the functions that the loader uses, so this finds what the
loader lost, doubled, mixed up or wrote differently, not what those functions get wrong: for that
there is the ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from schemas.codec import header
from schemas.topics import INBOUND, LIFECYCLES, QUARANTINE, ROLLUPS
from sendtrace.verify.found import Difference, Found, Key, last_of
from sinks import rows
from sinks.changes import (
    Deletion,
    Message,
    Unusable,
    inbound_change,
    message_change,
    rollup_change,
)
from sinks.rows import InboundReading, Row, Table, Version

# Not compared: the epoch is the warehouse's own.
_LEFT_OUT = "topic_epoch"
_SOURCE = slice(-2, None)  # of a row: its record's partition and offset
_INBOUND_ID = rows.INBOUND.names.index("message_id")


def differences(
    found: Found, reading: InboundReading, compared: Counter[str]
) -> Iterator[Difference]:
    messages: dict[Key, Row] = {}
    events: dict[Key, Row] = {}
    outlived: set[Key] = set()  # forgotten, or a fragment: its row knows more than its record
    fragments = {key for key, value in found.lifecycles.items() if value.fragment}
    fragments |= {key for key, value in found.rollups.items() if value.fragment}
    for key, kept in last_of(found.topics[LIFECYCLES]).items():
        version = Version(0, kept.partition, kept.offset)
        change = message_change(kept.key, kept.value, kept.headers, version)
        if kept.value is None or key in fragments:
            outlived.add((key,))
        elif isinstance(change, Unusable):
            yield _of_no_use(key, change)
        elif isinstance(change, Message):
            messages[(key,)] = change.row
            events |= {row[: len(rows.EVENTS.key)]: row for row in change.events}
    yield from _table(found, rows.MESSAGES, messages, outlived, compared)
    yield from _table(found, rows.EVENTS, events, outlived, compared)
    rolled: dict[Key, Row] = {}
    gone: set[Key] = set()  # the same
    for key, kept in last_of(found.topics[ROLLUPS]).items():
        version = Version(0, kept.partition, kept.offset)
        row = rollup_change(kept.key, kept.value, kept.headers, version)
        if isinstance(row, Unusable):
            yield _of_no_use(key, row)
        elif isinstance(row, Deletion) or row is None or key in fragments:
            gone.add((key,))
        else:
            rolled[(key,)] = row
    yield from _table(found, rows.ROLLUPS, rolled, gone, compared)
    yield from _inbound(found, reading, compared)


def _inbound(found: Found, reading: InboundReading, compared: Counter[str]) -> Iterator[Difference]:
    """A repeat changes nothing: a row is of the record that it names, whichever came first. Anyone
    may write what makes no row: then the loader must have put it into quarantine. What was
    forgotten has none."""
    there = found.tables[rows.INBOUND.name]
    expected: dict[Key, Row] = {}
    aside = {header(kept.headers, "st_origin") for kept in found.topics[QUARANTINE]}
    for kept in found.topics[INBOUND]:
        row = inbound_change(
            kept.value, kept.headers, kept.timestamp_ms * 1000, reading,
            Version(0, kept.partition, kept.offset),
        )  # fmt: skip
        if isinstance(row, Unusable):
            if f"{INBOUND}-{kept.partition}-{kept.offset}" not in aside:
                yield _of_no_use(header(kept.headers, "ce_id") or "", row)
            continue
        key = row[: len(rows.INBOUND.key)]
        if row[_INBOUND_ID] in found.inbound_forgotten:
            continue
        if key not in expected or row[_SOURCE] == there.get(key, ())[_SOURCE]:
            expected[key] = row
    yield from _table(found, rows.INBOUND, expected, set(), compared)


def _of_no_use(key: str, change: Unusable) -> Difference:
    """The loader says so as well, and there is no row."""
    return Difference("warehouse", key, f"no row can be made of it: {change.reason}")


def _table(
    found: Found,
    table: Table,
    expected: Mapping[Key, Row],
    outlived: set[Key],
    compared: Counter[str],
) -> Iterator[Difference]:
    there = found.tables[table.name]
    compared[f"rows of {table.name}"] = len(expected)
    for key, row in expected.items():
        seen = there.get(key)
        if seen is None:
            yield Difference("warehouse", str(key[0]), f"{table.name} has no row {key[1:]}")
            continue
        for name, wanted, value in zip(table.names, row, seen, strict=True):
            if wanted != value and name != _LEFT_OUT:
                sentence = f"{table.name}.{name} is {value!r}, not {wanted!r}"
                yield Difference("warehouse", str(key[0]), sentence)
    for key in there.keys() - expected.keys():
        if key[:1] not in outlived:
            sentence = f"{table.name} has a row {key[1:]} that no record made"
            yield Difference("warehouse", str(key[0]), sentence)
