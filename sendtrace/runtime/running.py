"""One task under the loop: its partitions, its state, how far it was fed, and its recovery.

The state machine: UNRESTORED -> RESTORING -> READY; a commit that fails leads back, at once or, in
the middle of a rebalance, when it is known whether the partitions are still ours. So does a state
that is found damaged while it is read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from enum import Enum, auto

from aiokafka.errors import KafkaError

from sendtrace.runtime.kafka import Consumer, Partition, Record
from sendtrace.runtime.task import PositionLost, StartOver, Task

# Failing to recover, or to commit, for longer than this is not a hiccup: crash, and be restarted
# from outside.
RECOVERY_LIMIT_SECONDS = 60.0
RECOVERY_BACKOFF_SECONDS = 0.2


class State(Enum):
    """What may be done with a task."""

    UNRESTORED = auto()  # knows no position: nothing, until it is told to restore
    RESTORING = auto()  # recovers beside the loop, which goes on polling for the others
    READY = auto()  # may be fed and committed


class Running:
    """A task with its partitions, and where it stands."""

    def __init__(self, task: Task, partitions: frozenset[Partition]) -> None:
        self.task = task
        self.partitions = partitions
        self.state = State.UNRESTORED
        self.next: dict[Partition, int] = {}  # what to feed next; empty unless READY
        self._read_ms: dict[Partition, int] = {}  # append time of the last record fed
        self._recovery: asyncio.Task[Mapping[Partition, int]] | None = None
        self._failing_since: float | None = None
        self._restored: Mapping[Partition, int] = {}

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    # -- recovery ------------------------------------------------------------------------------

    def failed(self) -> None:
        """A commit did not hold: nothing more is done with the task before it restores."""
        self._failing_since = self._failing_since or time.monotonic()
        self.unrestored()

    def unrestored(self) -> None:
        """What it has in memory is of no use any more."""
        self.state = State.UNRESTORED
        self.next = {}
        self._read_ms = {}  # what was fed since the last commit is to be fed once more

    @property
    def is_hopeless(self) -> bool:
        """Whether commits have failed for longer than the limit, and none held."""
        since = self._failing_since
        return since is not None and time.monotonic() - since > RECOVERY_LIMIT_SECONDS

    def restore(self) -> None:
        """Begin to recover. The limit counts from the first commit that failed."""
        since = self._failing_since or time.monotonic()
        self.state = State.RESTORING
        self.next = {}
        self._recovery = asyncio.create_task(_recover(self.task, since + RECOVERY_LIMIT_SECONDS))

    def restored(self) -> Mapping[Partition, int] | None:
        """The positions, once the recovery has ended. Raises what stopped it."""
        if self._recovery is None or not self._recovery.done():
            return None
        positions, self._recovery = self._recovery.result(), None
        if positions != self._restored:  # the commit held though it said nothing, or another's did
            self._failing_since = None
        self._restored = positions
        return positions

    def go_on(self, consumer: Consumer, positions: Mapping[Partition, int]) -> None:
        """Hand out records from these positions on."""
        for partition, offset in positions.items():
            consumer.seek(partition, offset)
        self.next = dict(positions)
        self.state = State.READY
        consumer.resume(*self.partitions)

    async def drop(self) -> None:
        """Give up what is uncommitted, and free everything."""
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.cancel()
            # Whatever it ends with does not matter any more: its work is given up.
            await asyncio.gather(recovery, return_exceptions=True)
        await self.task.close()

    # -- feeding and commit --------------------------------------------------------------------

    def feed(self, partition: Partition, records: list[Record]) -> None:
        if records[0].offset < self.next[partition]:
            raise PositionLost(
                f"{partition.topic}-{partition.partition} went back from offset "
                f"{self.next[partition]} to {records[0].offset}: the topic was made anew, or cut, "
                "while it was read. Restore it, or start once with --accept-gap"
            )
        self.task.feed(partition, records)
        self.next[partition] = records[-1].offset + 1
        self._read_ms[partition] = records[-1].timestamp

    async def pass_control_records(self, consumer: Consumer) -> bool:
        """Follow the consumer over records that are never handed out. Whether there were any."""
        passed = False
        for partition, offset in list(self.next.items()):
            position = await consumer.position(partition)
            if position > offset:
                self.task.skip(partition, position)
                self.next[partition] = position
                passed = True
        return passed

    async def commit(self) -> None:
        await self.task.commit()
        self._failing_since = None

    # -- how far it is -------------------------------------------------------------------------

    async def read_until_ms(self, consumer: Consumer) -> int:
        """Everything the broker took before this time was fed."""
        return min([await self._read_until_ms(consumer, partition) for partition in self.next])

    async def _read_until_ms(self, consumer: Consumer, partition: Partition) -> int:
        """At the end of the partition: when that was asked last. Else the last record's time.

        So a backlog after downtime does not look like silence, and an idle partition does not
        hold the others up.
        """
        end = consumer.last_stable_offset(partition)
        asked_ms = consumer.last_poll_timestamp(partition)
        if end is None or asked_ms is None or await consumer.position(partition) < end:
            return self._read_ms.get(partition, 0)
        return asked_ms

    async def lag(self, consumer: Consumer) -> int:
        """Records not yet read. By position: it counts control records, as the end does."""
        lag = 0
        for partition in self.next:
            end = consumer.highwater(partition)
            if end is not None:
                lag += max(0, end - await consumer.position(partition))
        return lag


async def _recover(task: Task, deadline: float) -> Mapping[Partition, int]:
    """Recover with pauses between tries, until the deadline; then the last error crashes us."""
    while True:
        try:
            return await task.recover()
        except (StartOver, KafkaError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RECOVERY_BACKOFF_SECONDS)
