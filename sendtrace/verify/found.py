"""What was found everywhere, in one form, for the comparison: topics, tables, figures. Data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from msgspec import Struct

from schemas.codec import TYPE_ERASE, decode_lifecycle, decode_rollup, header
from schemas.formats import NewerFormat
from schemas.lifecycle import Lifecycle
from schemas.rollup import Rollup
from schemas.topics import LIFECYCLES, ROLLUPS, SENDS
from sinks.rows import Row

# A series: the metric's name (without prefix and `_total`) and its labels, sorted.
Series = tuple[str, tuple[tuple[str, str], ...]]
Key = tuple[object, ...]


class Difference(Struct, frozen=True):
    """One thing that is not as another says it must be, as a sentence."""

    where: str  # a topic, `inputs`, `warehouse` or `metrics`
    key: str  # a message id, a request's id, or the labels of a figure
    sentence: str


class Kept(Struct, frozen=True):
    """A committed record of a topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass
class Found:
    """Read when everything had come to rest, at ``now_us``."""

    now_us: int
    topics: Mapping[str, Sequence[Kept]]
    # By table and key: rows in the form that the loader stages.
    tables: Mapping[str, Mapping[Key, Row]]
    figures: Mapping[Series, float]
    inbound_forgotten: frozenset[str] = frozenset()  # ids whose rows `sendtrace forget` deleted
    is_at_rest: bool = True  # False: something was still under way when the time was up

    @cached_property
    def lifecycles(self) -> dict[str, Lifecycle]:
        """The latest of each message; a forgotten one has none."""
        return _values(self.topics[LIFECYCLES], decode_lifecycle)

    @cached_property
    def history(self) -> list[Lifecycle]:
        """Each value that a message ever had, in its order; a tombstone as one with no facts."""
        found = []
        for kept in self.topics[LIFECYCLES]:
            if kept.value is None:
                found.append(Lifecycle(message_id=(kept.key or b"").decode()))
                continue
            with suppress(NewerFormat):
                found.append(decode_lifecycle(kept.value))
        return found

    @cached_property
    def rollups(self) -> dict[str, Rollup]:
        return _values(self.topics[ROLLUPS], decode_rollup)

    @cached_property
    def forgotten(self) -> set[str]:
        """Messages whose last record is a tombstone."""
        last = last_of(self.topics[LIFECYCLES])
        return {key for key, kept in last.items() if kept.value is None}

    @cached_property
    def erased(self) -> set[str]:
        """Messages that `sendtrace forget` asked to be erased."""
        return {
            (kept.key or b"").decode("utf-8", "replace")
            for kept in self.topics[SENDS]
            if header(kept.headers, "ce_type") == TYPE_ERASE
        }


def last_of(records: Sequence[Kept]) -> dict[str, Kept]:
    """Of each key its last record. A key has one partition, and is read in its order."""
    return {(kept.key or b"").decode(): kept for kept in records}


V = TypeVar("V")


def _values(records: Sequence[Kept], decode: Callable[[bytes], V]) -> dict[str, V]:
    """Without what was written by a newer version: that it makes no row is told (tables.py)."""
    found = {}
    for key, kept in last_of(records).items():
        if kept.value is not None:
            with suppress(NewerFormat):
                found[key] = decode(kept.value)
    return found


@dataclass
class Report:
    """What was compared, and how it differs."""

    compared: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        return not self.differences
