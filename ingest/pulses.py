"""Pulses: every edge says every 10 seconds, in every partition, that it takes webhooks.

Where no edge pulsed, silence is ours and not Vonage's: the joiner's deadlines move by such gaps. So
an edge that refuses or drains says nothing, and with Kafka away nothing gets through.
"""

from __future__ import annotations

import asyncio
import uuid

from ingest.errors import Refused
from ingest.handlers import Dependencies
from schemas import topics
from schemas.codec import TYPE_PULSE, cloud_event, encode, event_id
from schemas.pulses import Pulse


def new_edge_id() -> str:
    """Of this process: no replica and no successor has it."""
    return uuid.uuid4().hex


def is_taking(given: Dependencies, since_us: int) -> bool:
    """Whether every webhook since then was taken, or refused for a reason that was not ours."""
    return not given.closing and not given.draining and not given.refusals.since(since_us)


async def pulse(given: Dependencies, partitions: int, edge: str, pause_seconds: float) -> None:
    """Pulse for ever."""
    since_us = given.now_us()
    while True:
        if is_taking(given, since_us):
            await beat(given, partitions, edge)
        since_us = given.now_us()
        await asyncio.sleep(pause_seconds)


async def beat(given: Dependencies, partitions: int, edge: str) -> bool:
    """One record in every partition; whether Kafka acknowledged them all.

    One that Kafka does not take is a refusal as well: it would not have taken a webhook.
    """
    results = await asyncio.gather(
        *(_publish(given, partition, edge) for partition in range(partitions)),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, Refused):
            given.refusals.note(result.answer, given.now_us())
        elif result is not None:
            raise result
    return not any(results)


async def _publish(given: Dependencies, partition: int, edge: str) -> None:
    at_us = given.now_us()
    value = encode(Pulse(edge=edge, at_us=at_us))
    headers = cloud_event(
        ce_type=TYPE_PULSE,
        ce_id=event_id("PULSE", str(partition), value),
        source=f"/{topics.PULSES}",
        at_us=at_us,
        content_type="application/json",
    )
    await given.publisher.publish(
        topics.PULSES, str(partition).encode(), value, headers, partition=partition
    )
