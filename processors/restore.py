"""Brings a store up to the end of its changelog: the task's own partition of two topics.

Runs after InitProducerId, so no transaction of an earlier owner is open: the end that a
read_committed consumer is told is the end of all there will be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from processors.stage import EXPIRED, Stage
from processors.store import DeadlineEntry, Entry, Meta, Store
from schemas.codec import header
from schemas.topics import TOTALS
from sendtrace.runtime.kafka import Consumer, Partition, Record
from sendtrace.runtime.positions import Bounds, Gap, Saved, gaps_of
from sendtrace.runtime.task import StartOver

READ_TIMEOUT_SECONDS = 30.0


async def bounds_of(reader: Consumer, partitions: Collection[Partition]) -> dict[Partition, Bounds]:
    """Before anything is fetched, or the answer waits behind a long poll (docs/aiokafka.md 34)."""
    wanted = list(partitions)
    begins = await reader.beginning_offsets(wanted)
    ends = await reader.end_offsets(wanted)
    return {tp: Bounds(begins[tp], ends[tp]) for tp in wanted}


async def positions_within(
    reader: Consumer,
    bounds: Mapping[Partition, Bounds],
    known: Mapping[Partition, Saved],
    topic_ids: Mapping[str, str],
) -> tuple[dict[Partition, int], list[Gap]]:
    """Where to go on: a known position as it is, none yet: the log's beginning; and the gaps.

    Bounds that were asked for before the positions were read may be too old: another owner may have
    read on.
    """
    gaps = gaps_of(known, bounds, topic_ids)
    if gaps:
        bounds = await bounds_of(reader, bounds)
        gaps = gaps_of(known, bounds, topic_ids)
    positions = {tp: bounds[tp].begin for tp in bounds}
    positions.update((tp, saved.next) for tp, saved in known.items())
    positions.update((gap.partition, gap.next) for gap in gaps)
    return positions, gaps


async def read_changelog(
    reader: Consumer,
    store: Store,
    names: Mapping[Partition, str],
    cluster: str,
    now_ms: Callable[[], int],
    stage: Stage,
) -> None:
    """Read what the store has not seen yet. Afterwards it equals the topics' end."""
    ends = await reader.end_offsets(list(names))
    following = {tp: store.meta.next.get(name, 0) for tp, name in names.items()}
    if any(following[tp] > ends[tp] for tp in names):
        # The topic is not the one that the store followed.
        store.reset()
        following = dict.fromkeys(names, 0)
    await _read(reader, store, names, following, ends, cluster, now_ms, stage)


async def _read(
    reader: Consumer,
    store: Store,
    names: Mapping[Partition, str],
    following: dict[Partition, int],
    ends: Mapping[Partition, int],
    cluster: str,
    now_ms: Callable[[], int],
    stage: Stage,
) -> None:
    for tp, offset in following.items():
        reader.seek(tp, offset)
    reader.resume(*names)
    behind = {tp for tp in names if following[tp] < ends[tp]}
    deadline = asyncio.get_running_loop().time() + READ_TIMEOUT_SECONDS
    while behind:
        batches = await reader.getmany(*behind, timeout_ms=100, max_records=20_000)
        values: list[tuple[bytes, bytes]] = []
        totals: list[Entry] = []
        for tp, records in batches.items():
            if names[tp] == TOTALS:
                totals += [(record.key, record.value) for record in records]
            else:
                values += [_value(record, stage) for record in records]
        for tp in behind:
            # Control records count too: last offset + 1 may never reach it (docs/aiokafka.md 29).
            following[tp] = await reader.position(tp)
        progressed = {tp for tp in behind if following[tp] >= ends[tp]}
        if batches or progressed:
            deadline = asyncio.get_running_loop().time() + READ_TIMEOUT_SECONDS
        elif asyncio.get_running_loop().time() > deadline:
            raise StartOver(f"reading the changelog made no progress for {READ_TIMEOUT_SECONDS} s")
        behind -= progressed
        store.write(
            values,
            totals,
            Meta(
                cluster=cluster,
                next={name: following[tp] for tp, name in names.items()},
                caught_up_at_ms=store.meta.caught_up_at_ms,
            ),
            _deadlines(values, stage),
        )
    meta = store.meta
    store.write([], [], Meta(cluster=cluster, next=meta.next, caught_up_at_ms=now_ms()))


def _value(record: Record, stage: Stage) -> tuple[bytes, bytes]:
    """Of a tombstone its remnant, as it was left when the tombstone was written."""
    if record.value is not None:
        return record.key, record.value
    reason = header(record.headers, "reason") or EXPIRED
    return record.key, stage.remnant(record.key, reason, record.timestamp)


def _deadlines(values: Iterable[tuple[bytes, bytes]], stage: Stage) -> Iterator[DeadlineEntry]:
    """Index entries of restored values. One that is outdated is dropped when it comes up."""
    for key, value in values:
        at_us = stage.due_at_us(value)
        if at_us is not None:
            yield at_us, key, True
