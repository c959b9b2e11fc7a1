"""Reads partitions from where they begin to an end that is known, without a group.

For what looks at a topic once and is done. What goes on for ever is the loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from sendtrace.runtime.kafka import Clients, Consumer, Partition, Record, stop_quietly
from sendtrace.runtime.topics import DependencyAway

START_TIMEOUT_SECONDS = 30.0
# Nothing came for so long, though there is more: the broker is away.
STALL_SECONDS = 30.0
_POLL_MS = 200


@asynccontextmanager
async def open_reader(
    clients: Clients, partitions: Collection[Partition], *, committed: bool = True
) -> AsyncIterator[Consumer]:
    """A reader of these partitions, all paused, at their beginning.

    Assigned before anything is asked about them: offsets of a topic that is not in the client's
    metadata yet cost it seconds of waiting (docs/aiokafka.md 33).
    """
    reader = clients.reader(committed=committed)
    reader.assign(list(partitions))
    reader.pause(*partitions)
    try:
        # Not wait_for: before Python 3.12 it loses a cancellation that comes with the answer.
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            await reader.start()
        yield reader
    finally:
        await stop_quietly(reader)


async def read_until(
    reader: Consumer, ends: Mapping[Partition, int]
) -> AsyncIterator[tuple[Partition, Sequence[Record]]]:
    """Every record before ``ends``, from where the reader is; it stands there, paused, afterwards.

    Raises DependencyAway when nothing comes any more.
    """
    left = {tp for tp, end in ends.items() if await reader.position(tp) < end}
    reader.resume(*left)
    clock = asyncio.get_running_loop().time
    came_at = clock()
    while left:
        found = await reader.getmany(*left, timeout_ms=_POLL_MS)
        for tp, records in found.items():
            wanted = [record for record in records if record.offset < ends[tp]]
            if wanted:
                yield tp, wanted
                came_at = clock()  # whatever was done with them is no waiting of ours
        # Control records move the position, too, and are no records.
        for tp in [tp for tp in left if await reader.position(tp) >= ends[tp]]:
            left.remove(tp)
            reader.pause(tp)
            reader.seek(tp, ends[tp])
        if clock() - came_at > STALL_SECONDS:
            raise DependencyAway("Kafka does not give the records that it says it has")
