"""What an edge says about itself: records marked after a refusal, and pulses while it takes."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber

from ingest.errors import (
    ANSWERS,
    BODY_MISMATCH,
    DRAINING,
    KAFKA_SLOW,
    NOT_FOUND,
    UNSIGNED,
    WRONG_SIGNATURE,
)
from ingest.pulses import beat, is_taking, pulse
from ingest.refusals import Refusals
from schemas.codec import header

from fakes.edge import Edge
from waiting import until

AFTER_US = 15 * 60 * 1_000_000
STATUS = b'{"message_uuid":"id-1","status":"delivered"}'


def test_marked_while_and_until_fifteen_minutes_after() -> None:
    refusals = Refusals(AFTER_US)
    assert not refusals.is_after(0)
    refusals.note(KAFKA_SLOW, 1_000)
    assert refusals.is_after(1_000)
    assert refusals.is_after(1_000 + AFTER_US)
    assert not refusals.is_after(1_001 + AFTER_US)


def test_a_stranger_cannot_mark_the_records_of_others() -> None:
    """Until a setting is mended nobody knows whether it was Vonage that was refused."""
    refusals = Refusals(AFTER_US)
    for answer in (UNSIGNED, WRONG_SIGNATURE, BODY_MISMATCH, NOT_FOUND):
        refusals.note(answer, 1_000)
    assert not refusals.is_after(1_000)
    refusals.mended(2_000)
    assert refusals.is_after(2_000)


def test_a_new_file_after_no_refusal_marks_nothing() -> None:
    refusals = Refusals(AFTER_US)
    refusals.note(BODY_MISMATCH, 1_000)
    refusals.mended(2_000)
    assert not refusals.is_after(2_000)


def test_only_answers_that_are_tried_again_are_ours() -> None:
    assert all(answer.http_status == 503 for answer in ANSWERS if answer.is_ours)


async def test_what_comes_after_a_refusal_is_marked(edge: Edge) -> None:
    url = f"{edge.public}/webhooks/x"
    await edge.session.post(url, data=STATUS)
    edge.log.failing.append(OutOfOrderSequenceNumber())
    await edge.session.post(url, data=STATUS)
    await edge.session.post(url, data=STATUS)
    at_us = edge.given.now_us()
    edge.given.now_us = lambda: at_us + AFTER_US
    await edge.session.post(url, data=STATUS)
    marks = [header(e.headers, "ce_afterrefusal") for e in edge.log.records("sendtrace.statuses")]
    assert marks == [None, "true", None]


async def test_one_pulse_in_every_partition(edge: Edge) -> None:
    edge.given.now_us = lambda: 7
    assert await beat(edge.given, 3, "me")
    for partition in range(3):
        [entry] = edge.log.records("sendtrace.pulses", partition)
        assert entry.key == str(partition).encode()
        assert json.loads(entry.value or b"") == {"v": 1, "edge": "me", "at_us": 7}
        assert header(entry.headers, "ce_type") == "com.sendtrace.pulse.v1"


@pytest.mark.parametrize("state", ["closing", "draining"])
def test_no_pulse_while_draining(edge: Edge, state: str) -> None:
    assert is_taking(edge.given, 0)
    setattr(edge.given, state, True)
    assert not is_taking(edge.given, 0)


def test_no_pulse_after_a_refusal_of_ours(edge: Edge) -> None:
    edge.given.refusals.note(DRAINING, 5)
    assert not is_taking(edge.given, 5)
    assert is_taking(edge.given, 6)


@pytest.mark.parametrize("budget_seconds", [0.2])
async def test_pulses_pause_while_the_edge_refuses(edge: Edge) -> None:
    """Kafka holds its acknowledgements: pulses stop with the webhooks, and come back with them."""

    def pulses() -> int:
        return len(edge.log.records("sendtrace.pulses", 0))

    task = asyncio.ensure_future(pulse(edge.given, 3, "me", 0.05))
    await until(lambda: pulses() >= 2)
    edge.log.acknowledging.clear()
    await until(lambda: edge.given.refusals.last_us is not None)
    during = pulses()
    edge.log.acknowledging.set()
    await until(lambda: pulses() > during + 1)
    task.cancel()
    await asyncio.wait([task])
