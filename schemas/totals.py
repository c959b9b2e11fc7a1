"""Records of topic ``totals``: growing counters per label set, and the positions of a task.

A key is ``[stage, input partition, {label: value}]`` as canonical JSON (labels sorted), so equal
label sets have equal bytes. The record that holds how far a task has read its inputs has the key
``[stage, input partition, "@positions"]``; it is written in the same transaction as everything
that follows from those inputs, and is the truth about them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

FORMAT = 1
POSITIONS = "@positions"

LabelSet = tuple[tuple[str, str], ...]  # sorted by label name


class Histogram(Struct, omit_defaults=True):
    """Counts per bucket (not cumulative; the last one is +Inf) and the sum in milliseconds."""

    buckets: list[int]
    sum_ms: int = 0


class TotalsRecord(Struct, omit_defaults=True):
    """All counters and histograms of one label set, as they stand. They only grow."""

    v: int = 1  # a record without it is of format 1: this default never changes
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    histograms: dict[str, Histogram] = msgspec.field(default_factory=dict)


class PositionsRecord(Struct):
    """The next offset to read of each input topic (name without prefix) of one task.

    ``topic_ids`` are of the topics that the positions and the values beside them are of: those that
    were there before anything was read. One that was made anew has another id.
    """

    v: int = 1  # a record without it is of format 1: this default never changes
    next: dict[str, int] = msgspec.field(default_factory=dict)
    topic_ids: dict[str, str] = msgspec.field(default_factory=dict)


class TotalsKey(Struct, array_like=True, frozen=True):
    stage: str
    partition: int
    labels: dict[str, str] | str  # a string is POSITIONS


_encode = msgspec.json.Encoder(order="sorted").encode
_decode_key = msgspec.json.Decoder(TotalsKey).decode


def totals_key(stage: str, partition: int, labels: LabelSet) -> bytes:
    return _encode(TotalsKey(stage, partition, dict(labels)))


def state_key(stage: str, partition: int, label: str) -> bytes:
    """The key of a record that is no counter; ``label`` begins with @, as POSITIONS does."""
    return _encode(TotalsKey(stage, partition, label))


def positions_key(stage: str, partition: int) -> bytes:
    return state_key(stage, partition, POSITIONS)


def parse_key(key: bytes) -> TotalsKey:
    """Raises msgspec.ValidationError or DecodeError for a key that sendtrace never wrote."""
    return _decode_key(key)


def label_set(labels: Mapping[str, str]) -> LabelSet:
    return tuple(sorted(labels.items()))
