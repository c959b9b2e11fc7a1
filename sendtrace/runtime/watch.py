"""The loop's watchdog: tells health what moves, and health tells ``/livez`` what has not for long.

A consumer may hang though Kafka is well; its heartbeats go on in the background, so that it would
keep its partitions for ever (docs/aiokafka.md 28). Watched are the loop's rounds, the wait for an
assignment, and each partition that is fed: it must move, or be read to its end again and again.
While Kafka does not answer, a restart would mend nothing: then all is excused.

A task that restores is not watched. It may take its time, and each wait in it has its own bound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from aiokafka.errors import KafkaError

from sendtrace.runtime.kafka import Consumer, Partition
from sendtrace.runtime.service import Health

ROUNDS, ASSIGNMENT = "the loop", "the assignment"
# An idle partition is polled twice a second. What stands still for a while longer may be Kafka's.
ASK_SECONDS = 10.0
ASK_TIMEOUT_SECONDS = 5.0


class Watch:
    """What of a loop moves."""

    def __init__(self, consumer: Consumer, health: Health) -> None:
        self._consumer = consumer
        self._health = health
        self._seen: dict[Partition, tuple[int, int | None]] = {}  # position and last poll
        self._ask_due = 0.0

    def round(self) -> None:
        """The loop came round."""
        self._health.moved(ROUNDS)

    def ended(self) -> None:
        self._health.at_rest(ROUNDS)

    def unassigned(self) -> None:
        """From now on an assignment is waited for."""
        self._health.moved(ASSIGNMENT)

    def assigned(self) -> None:
        self._health.at_rest(ASSIGNMENT)

    def fed(self, partitions: Collection[Partition]) -> None:
        """These are read, or move on."""
        for partition in partitions:
            self._health.moved(_name(partition))

    def rest(self, partitions: Collection[Partition]) -> None:
        """These are not read any more."""
        for partition in partitions:
            self._health.at_rest(_name(partition))

    async def look(self, fed: Collection[Partition]) -> None:
        """Once a second, while there is an assignment."""
        still = {partition for partition in fed if not await self._has_moved(partition)}
        self.fed(set(fed) - still)
        if still:
            await self._excuse_unless_kafka_answers(still)

    async def look_without_assignment(self, last: Collection[Partition]) -> None:
        """Once a second, while none is known."""
        await self._excuse_unless_kafka_answers(last)

    async def _has_moved(self, partition: Partition) -> bool:
        position = await self._consumer.position(partition)
        end = self._consumer.last_stable_offset(partition)
        # Behind, the answer to a poll is no progress.
        behind = end is not None and position < end
        now = position, None if behind else self._consumer.last_poll_timestamp(partition)
        before, self._seen[partition] = self._seen.get(partition), now
        return before != now

    async def _excuse_unless_kafka_answers(self, partitions: Collection[Partition]) -> None:
        if time.monotonic() < self._ask_due:
            return
        self._ask_due = time.monotonic() + ASK_SECONDS
        try:
            async with asyncio.timeout(ASK_TIMEOUT_SECONDS):
                await self._consumer.end_offsets(list(partitions))
        except (KafkaError, TimeoutError):
            self._health.excuse()


def _name(partition: Partition) -> str:
    return f"{partition.topic}-{partition.partition}"
