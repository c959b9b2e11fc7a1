"""The stories, told to the pure join: raw webhooks in, summaries and rollups out.

Time goes as it does in the engine: before each step every deadline fires that is due by then, and
after the last one the silence goes on.
"""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from processors.join.deadlines import fire, next_deadline
from processors.join.derive import summarise
from processors.join.facts import empty, with_fact, with_send
from processors.join.policy import Policy
from processors.rollup import derive, merge
from processors.rollup.parts import part_of
from schemas.codec import encode
from schemas.events import Arrival, Event, Send
from schemas.lifecycle import Lifecycle
from schemas.vonage.exchange import Exchange
from schemas.vonage.messages import decode_status
from schemas.vonage.sends import PARSERS
from schemas.vonage.sms import decode_receipt

from stories.tales import STORIES
from stories.telling import Sent, Story, Webhook, us

POLICY = Policy()


def events_of(step: Sent | Webhook) -> list[Event] | list[Send]:
    """What the edge, the proxy and the decoder make of a step."""
    if isinstance(step, Webhook):
        arrival = Arrival(us(step.at_s), step.account or None)
        if step.path == "/webhooks/status":
            return [decode_status(step.body, arrival)]
        return [decode_receipt(step.body, step.content_type, arrival)]
    exchange = Exchange(
        send_id=step.send_id,
        arrived_at_us=us(step.at_s),
        request=step.request,
        answer_status=step.answer_status,
        answer=step.answer,
        account=step.account,
        requested_at_us=us(step.answered_s - step.took_s),
        answered_at_us=us(step.answered_s),
    )
    return [replace(send, clock="ours") for send in PARSERS[step.api](exchange)]


def wait(lives: dict[str, Lifecycle], until_us: int) -> None:
    for message_id, lifecycle in lives.items():
        while (due := next_deadline(lifecycle, POLICY)) is not None and due.at_us <= until_us:
            lifecycle = fire(lifecycle, due)
        lives[message_id] = lifecycle


def add(lives: dict[str, Lifecycle], event: Event | Send) -> None:
    before = lives.get(event.message_id) or empty(event.message_id)
    if isinstance(event, Send):
        lives[event.message_id] = with_send(before, event)
    else:
        lives[event.message_id] = with_fact(before, event.fact)


def live(story: Story) -> dict[str, Lifecycle]:
    lives: dict[str, Lifecycle] = {}
    for step in story.steps:
        wait(lives, us(step.at_s))
        for event in events_of(step):
            add(lives, event)
    wait(lives, us(story.until_s))
    return lives


def summaries(lives: dict[str, Lifecycle]) -> dict[str, dict[str, Any]]:
    return {
        message_id: json.loads(encode(summarise(lifecycle, POLICY)))
        for message_id, lifecycle in lives.items()
    }


def rollups(lives: dict[str, Lifecycle]) -> dict[str, dict[str, Any]]:
    found: dict[str, Any] = {}
    for position, lifecycle in enumerate(lives.values()):
        part = part_of(replace(lifecycle, summary=summarise(lifecycle, POLICY)))
        if part is not None:
            before = found.get(part[0]) or merge.empty(part[0])
            found[part[0]] = merge.with_part(before, part[1], position)
    return {key: json.loads(encode(derive.summarise(rollup))) for key, rollup in found.items()}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_what_became_of_the_messages(story: Story) -> None:
    assert summaries(live(story)) == story.messages


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_what_became_of_the_send(story: Story) -> None:
    assert rollups(live(story)) == story.rollups


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_it_ends_the_same_in_any_order(story: Story) -> None:
    """All steps at once, shuffled and told twice, and then the silence."""
    for seed in range(20):
        steps = [*story.steps, *story.steps]
        random.Random(seed).shuffle(steps)
        lives: dict[str, Lifecycle] = {}
        for step in steps:
            for event in events_of(step):
                add(lives, event)
        wait(lives, us(story.until_s))
        assert summaries(lives) == story.messages


def test_the_stories_hold_no_text() -> None:
    for story in STORIES:
        assert b"never kept" not in msgspec.json.encode(list(live(story).values()))
