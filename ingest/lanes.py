"""What group commit keeps: bytes in flight, batches that requests share, lanes of partitions.

Decisions about them are in ``publish.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ingest.errors import IN_FLIGHT_FULL, Answer, Refused
from ingest.metrics import Metrics
from schemas.codec import Headers
from sendtrace.runtime.kafka import Batch, Producer


class InFlight:
    """Bytes held by requests and by batches that Kafka has not resolved. Bounded."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.bytes = 0
        self._limit = limit
        metrics.in_flight_bytes.set_function(lambda: self.bytes)

    def take(self, size: int) -> None:
        if self.bytes + size > self._limit:
            raise Refused(IN_FLIGHT_FULL)
        self.bytes += size

    def give(self, size: int) -> None:
        self.bytes -= size


class Group:
    """A batch and those who wait for it. ``answer`` is None for acknowledged."""

    __slots__ = ("answer", "batch", "bytes", "expiry", "opened_at", "producer")

    def __init__(self, batch: Batch, answer: asyncio.Future[Answer | None], now: float) -> None:
        self.batch = batch
        self.answer = answer
        self.opened_at = now
        self.bytes = 0
        self.expiry: asyncio.TimerHandle | None = None
        self.producer: Producer | None = None

    def fits(self, key: bytes | None, value: bytes, headers: Headers) -> bool:
        """Append the record, if there is room for it."""
        appended = self.batch.append(timestamp=None, key=key, value=value, headers=headers)
        return appended is not None


class Lane:
    """The batches of one partition: one open, full ones in order, some on their way."""

    __slots__ = ("open", "partition", "ready", "sending", "topic", "wake")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.open: Group | None = None
        self.ready: deque[Group] = deque()
        self.sending = 0
        self.wake: asyncio.Handle | None = None
