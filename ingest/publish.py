"""Group commit: requests of one partition share a batch, and share its acknowledgement.

A batch goes as soon as the one before it is acknowledged, at the latest after the linger. Nobody
waits longer than the budget, whatever Kafka does:

1. A batch that is not handed to the producer within the budget is dropped: its requests got 503.
2. One that is handed over and not acknowledged in time stays charged to the bytes in flight until
   the producer has done with it, since it may still be written (docs/aiokafka.md 9 and 10). It is
   never sent again by us: the requests got 503, Vonage sends them again.
3. A batch that fails makes its producer suspect, since one failure spoils those that follow
   (docs/aiokafka.md 5): it is replaced, and what waits meanwhile goes through the new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from ingest.errors import KAFKA_FAILED, KAFKA_SLOW, TOO_LARGE, Answer, Refused
from ingest.lanes import Group, InFlight, Lane
from ingest.metrics import Metrics
from ingest.producers import (
    PRODUCER_ERRORS,
    RECORD_LIMIT_BYTES,
    START_TIMEOUT_SECONDS,
    discard,
    new_producer,
    started_producer,
)
from schemas.codec import Headers
from schemas.topics import partition_of
from sendtrace.runtime.kafka import Clients, Producer
from sendtrace.runtime.settings import Settings

# Lengths and headers of a record as the edge writes it, next to key and value: some 300 bytes, and
# at most 1,000 in all but odd ones.
RECORD_OVERHEAD_BYTES = 1_000
# One on its way and one behind it: aiokafka sends one request per broker at a time, so that more
# would only make smaller batches (docs/aiokafka.md 14).
_SENDING_LIMIT = 2

log = logging.getLogger(__name__)


class Publisher:
    """Makes records durable. ``broken`` is set when something happened that must not."""

    def __init__(self, clients: Clients, settings: Settings, metrics: Metrics) -> None:
        self.in_flight = InFlight(settings.edge_in_flight_limit_bytes, metrics)
        self.broken = asyncio.Event()
        self._clients = clients
        self._settings = settings
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._producer = new_producer(clients)
        self._usable = False
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._deliveries: dict[asyncio.Task[None], Group] = {}
        self._waiting: set[Group] = set()
        self._replacement: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect. Raises KafkaError when Kafka is away: at start that is for a person to mend."""
        try:
            await asyncio.wait_for(self._producer.start(), START_TIMEOUT_SECONDS)
        except PRODUCER_ERRORS:
            await discard(self._producer)
            raise
        self._usable = True

    async def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Headers,
        *,
        partition: int | None = None,
    ) -> None:
        """Return once Kafka acknowledged the record with acks=all. Raises Refused otherwise,
        within the budget. The key chooses the partition; without one the bytes do."""
        size = len(key or b"") + len(value) + RECORD_OVERHEAD_BYTES
        if size > RECORD_LIMIT_BYTES:
            raise Refused(TOO_LARGE)
        self.in_flight.take(size)
        if partition is None:
            partition = partition_of(value if key is None else key, self._settings.partitions)
        group = self._append(self._lane(topic, partition), key, value, headers, size)
        refusal = await asyncio.shield(group.answer)
        if refusal is not None:
            raise Refused(refusal)

    async def flush(self) -> None:
        """Wait until everybody has an answer; the budget bounds it."""
        while self._waiting:
            await asyncio.wait([group.answer for group in self._waiting])

    async def stop(self) -> None:
        """Flush, then let go of the producer, within a bound."""
        await self.flush()
        self._usable = False
        if self._replacement is not None:
            self._replacement.cancel()
            await asyncio.wait([self._replacement])
        await discard(self._producer)
        await _cancel(self._deliveries)

    # -- batches -------------------------------------------------------------------------------

    def _lane(self, topic: str, partition: int) -> Lane:
        lane = self._lanes.get((topic, partition))
        if lane is None:
            full_name = self._settings.topic(topic)
            lane = self._lanes[topic, partition] = Lane(full_name, partition)
        return lane

    def _append(
        self, lane: Lane, key: bytes | None, value: bytes, headers: Headers, size: int
    ) -> Group:
        group = lane.open
        if group is None or not group.fits(key, value, headers):
            if group is not None:
                lane.ready.append(group)
            group = lane.open = self._open_group(lane)
            # An empty batch takes any record; its size was checked.
            assert group.fits(key, value, headers)
        group.bytes += size
        self._pump(lane)
        return group

    def _open_group(self, lane: Lane) -> Group:
        group = Group(self._producer.create_batch(), self._loop.create_future(), self._loop.time())
        budget = self._settings.edge_budget_seconds
        group.expiry = self._loop.call_later(budget, self._expire, lane, group)
        self._waiting.add(group)
        return group

    def _pump(self, lane: Lane) -> None:
        """Send what may go now, and see to it that the open batch goes in time."""
        if not self._usable:
            return
        while lane.ready and lane.sending < _SENDING_LIMIT:
            self._send(lane, lane.ready.popleft())
        if lane.open is None or lane.wake is not None or lane.sending >= _SENDING_LIMIT:
            return
        if lane.sending == 0:
            # Not now but next: requests of this turn of the loop come along.
            lane.wake = self._loop.call_soon(self._send_open, lane)
        else:
            linger_seconds = self._settings.edge_linger_ms / 1000
            lane.wake = self._loop.call_later(linger_seconds, self._send_open, lane)

    def _send_open(self, lane: Lane) -> None:
        lane.wake = None
        group = lane.open
        if group is None or not self._usable or lane.sending >= _SENDING_LIMIT:
            return
        lane.open = None
        self._send(lane, group)

    def _send(self, lane: Lane, group: Group) -> None:
        lane.sending += 1
        self._metrics.enqueue_seconds.observe(self._loop.time() - group.opened_at)
        group.producer = self._producer
        task = self._loop.create_task(self._deliver(lane, group, self._producer))
        self._deliveries[task] = group
        task.add_done_callback(lambda done: self._delivered(lane, group, done))

    async def _deliver(self, lane: Lane, group: Group, producer: Producer) -> None:
        try:
            acknowledged = await producer.send_batch(
                group.batch, lane.topic, partition=lane.partition
            )
            await acknowledged
        except PRODUCER_ERRORS as error:
            self._resolve(group, KAFKA_FAILED)
            self._suspect(producer, error)
        else:
            self._metrics.ack_seconds.observe(self._loop.time() - group.opened_at)
            self._resolve(group, None)

    def _delivered(self, lane: Lane, group: Group, task: asyncio.Task[None]) -> None:
        del self._deliveries[task]
        lane.sending -= 1
        self.in_flight.give(group.bytes)
        self._resolve(group, KAFKA_FAILED)  # nothing, unless the task was cancelled or broke
        if not task.cancelled() and task.exception() is not None:
            log.error("a delivery broke: %s", type(task.exception()).__name__)
            self.broken.set()
        if lane.wake is not None and lane.sending == 0:
            # The linger was for company of a batch that is acknowledged now.
            lane.wake.cancel()
            lane.wake = None
        self._pump(lane)

    def _resolve(self, group: Group, answer: Answer | None) -> None:
        if group.expiry is not None:
            group.expiry.cancel()
            group.expiry = None
        self._waiting.discard(group)
        if not group.answer.done():
            group.answer.set_result(answer)

    def _expire(self, lane: Lane, group: Group) -> None:
        self._resolve(group, KAFKA_SLOW)
        if group.producer is not None:
            return  # on its way: charged until the producer has done with it
        if lane.open is group:
            lane.open = None
        else:
            lane.ready.remove(group)
        self.in_flight.give(group.bytes)

    # -- the producer --------------------------------------------------------------------------

    def _suspect(self, producer: Producer, error: BaseException) -> None:
        if producer is not self._producer or not self._usable:
            return  # its replacement is there, or on its way
        log.warning("the producer is replaced after %s", type(error).__name__)
        self._usable = False
        self._metrics.replacements.inc()
        self._replacement = self._loop.create_task(self._replace(producer))
        self._replacement.add_done_callback(self._replaced)

    async def _replace(self, old: Producer) -> None:
        self._producer = await started_producer(self._clients)
        self._usable = True
        for lane in self._lanes.values():
            self._pump(lane)
        await discard(old)
        # What the old one still holds is never resolved by it: nobody would give its bytes back.
        await _cancel(task for task, group in self._deliveries.items() if group.producer is old)

    def _replaced(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("the producer's replacement broke: %s", type(task.exception()).__name__)
            self.broken.set()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    remaining = list(tasks)
    for task in remaining:
        task.cancel()
    if remaining:
        await asyncio.wait(remaining)
