"""The edge's producers: made, started again until one starts, let go."""

from __future__ import annotations

import asyncio
import logging

from aiokafka.errors import KafkaError

from sendtrace.runtime.kafka import Clients, Producer, stop_quietly

# A body of 1 MiB with a key of 1 KiB and headers; the topics take batches of 2 MiB.
RECORD_LIMIT_BYTES = 1_048_576 + 4_096
# The largest record and a batch's own header. Larger batches would win nothing.
BATCH_LIMIT_BYTES = RECORD_LIMIT_BYTES + 1_024
START_TIMEOUT_SECONDS = 10.0
_BACKOFF_SECONDS = (0.05, 0.2, 0.5, 1.0)

# What a producer away or spoilt raises. Anything else is a bug, and ends the process.
PRODUCER_ERRORS = (KafkaError, TimeoutError, OSError)

log = logging.getLogger(__name__)


def new_producer(clients: Clients) -> Producer:
    """One whose batches take the largest record."""
    return clients.producer(max_batch_bytes=BATCH_LIMIT_BYTES)


async def started_producer(clients: Clients) -> Producer:
    """One that runs; tries for ever."""
    attempt = 0
    while True:
        producer = new_producer(clients)
        try:
            await asyncio.wait_for(producer.start(), START_TIMEOUT_SECONDS)
        except PRODUCER_ERRORS:
            await discard(producer)
            await asyncio.sleep(_BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)])
            attempt += 1
        except asyncio.CancelledError:
            await discard(producer)
            raise
        else:
            return producer


async def discard(producer: Producer) -> None:
    """Stop a producer that may be spoilt: then its own failure comes out of stop()."""
    try:
        await stop_quietly(producer)
    except PRODUCER_ERRORS as error:
        log.info("a producer did not stop cleanly: %s", type(error).__name__)
