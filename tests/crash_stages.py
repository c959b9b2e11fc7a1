"""The stages under test with their traffic, and what may be done to them in memory."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import IllegalOperation

from processors import wiring
from schemas.codec import TYPE_SEND, cloud_event, encode
from schemas.events import Send
from schemas.pulses import Pulse
from schemas.rollup import Part
from schemas.topics import LIFECYCLES, PARTS, PULSES, ROLLUPS, SENDS, STATUSES, partition_of
from sendtrace.runtime import loop, running, watch
from sendtrace.runtime.settings import Settings

from crash import Lane, Put, StageUnderTest
from engine import ARRIVED_US, status_body, status_headers
from fakes.cluster import Cluster, MemoryCluster
from fakes.mortal import Point, Refused

# Long ago, as a pulse counts no later than Kafka took it: a slow wave would leave a gap.
PULSED_US = ARRIVED_US - 24 * 3_600_000_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop does now and then it does at every poll: lives here are short."""
    monkeypatch.setattr(loop, "LAG_SECONDS", 0.0)
    monkeypatch.setattr(loop, "ADVANCE_SECONDS", 0.0)
    monkeypatch.setattr(watch, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(running, "RECOVERY_BACKOFF_SECONDS", 0.01)


def _statuses(number: int, partitions: int) -> list[Put]:
    """For each partition: two messages, one repeat, one that strayed, one that nobody can read;
    and a send of several parts."""
    puts = []
    for p in range(partitions):
        # First: alone they are no reason to commit, and who waits for that would wait for ever.
        pulse = Pulse(edge="e", at_us=PULSED_US + number * 10_000_000)
        puts.append(Put(PULSES, p, "", encode(pulse), []))
        for message in ("a", "b"):
            key = _key(f"{number}-{message}", p, partitions)
            for status, second in (("submitted", 1), ("delivered", 4), ("submitted", 1)):
                body = status_body(key, status, second)
                puts.append(Put(STATUSES, p, key, body, status_headers(second)))
        stray = _key(f"{number}-stray", (p + 1) % partitions, partitions)
        puts.append(Put(STATUSES, p, stray, status_body(stray, "delivered"), status_headers()))
        puts.append(Put(STATUSES, p, "", b"not json", []))
        part = _key(f"{number}-part", p, partitions)
        puts.append(Put(SENDS, p, part, _send(part), _SEND_HEADERS))
    return puts


_SEND_HEADERS = cloud_event(
    ce_type=TYPE_SEND, ce_id="0", source="/", at_us=ARRIVED_US, content_type=None
)


def _send(message_id: str) -> bytes:
    send = Send(
        message_id=message_id, send_id=message_id, api="sms", part=1, parts=2,
        arrived_at_us=ARRIVED_US,
    )  # fmt: skip
    return encode(send)


def _parts(number: int, partitions: int) -> list[Put]:
    """For each partition: two parts of one send, one of them twice, and what is no part.

    None that strayed: a rollup tells where its parts stood, and that depends on crashes then.
    """
    puts = []
    for p in range(partitions):
        key = _key(str(number), p, partitions)
        for message, outcome in (("a", "pending"), ("b", "failed"), ("a", "delivered")):
            part = Part(
                message_id=f"{key}-{message}", kind="parts", send_id=key, outcome=outcome, total=2
            )
            puts.append(Put(PARTS, p, key, encode(part), []))
        puts.append(Put(PARTS, p, key, b"not json", []))
    return puts


def _key(name: str, partition: int, partitions: int) -> str:
    """An id of that name whose home is that partition."""
    n = 0
    while partition_of(f"{name}-{n}".encode(), partitions) != partition:
        n += 1
    return f"{name}-{n}"


JOIN = StageUnderTest("join", wiring.JOINER, LIFECYCLES, _statuses)
ROLLUP = StageUnderTest("rollup", wiring.ROLLUP, ROLLUPS, _parts)


def settings_of(**more: Any) -> Settings:
    """No deadline of the traffic comes while a sweep runs: what came out would depend on when."""
    return Settings(
        partitions=2,
        transaction_interval_ms=1,
        quarantine_ratio_limit=1.0,
        deadlines="no_first_event=72h",
        **more,
    )


async def memory() -> Cluster:
    return MemoryCluster(settings_of(topic_prefix="test."))


async def spoil(lane: Lane) -> None:
    raise IllegalOperation


async def lose_send(lane: Lane) -> None:
    """The batch never comes to the log: only its future tells."""
    lane.cluster.log.failing_sends.append(Refused())


def is_send(point: Point) -> bool:
    return "send_batch" in point.operation and point.at.startswith("before")
