"""Records on their way out, packed into batches."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from schemas.codec import Headers
from sendtrace.runtime.kafka import Batch, Producer


class Outgoing(Struct, frozen=True):
    """A record to be produced; ``topic`` without prefix."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class OversizeRecord(Exception):
    """A record of ours is larger than a batch may be: the bound of 64 facts makes that a bug."""


def batches_of(
    producer: Producer, outgoing: Iterable[Outgoing]
) -> Iterable[tuple[str, int, Batch]]:
    """Pack records into batches below the producer's limit, in order within each partition."""
    open_batches: dict[tuple[str, int], Batch] = {}
    for record in outgoing:
        target = record.topic, record.partition
        batch = open_batches.get(target)
        if batch is None:
            batch = open_batches[target] = producer.create_batch()
        if _append(batch, record):
            continue
        yield (*target, batch)
        batch = open_batches[target] = producer.create_batch()
        # A record larger than a whole batch is taken by an empty one: see Batch.
        if not _append(batch, record):
            raise OversizeRecord(f"a record for {record.topic} does not fit into one batch")
    for target, batch in open_batches.items():
        yield (*target, batch)


def _append(batch: Batch, record: Outgoing) -> bool:
    return (
        batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
        is not None
    )
