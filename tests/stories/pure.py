"""The stories, told to the pure join: raw requests and webhooks in, lifecycles and rollups out.

Time goes as it does in the engine: before each step every deadline fires that is due by then, and
after the last one the silence goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from ingest.calls import parse
from processors.join.deadlines import fire, next_deadline
from processors.join.derive import summarise
from processors.join.facts import empty, with_fact, with_send
from processors.join.policy import Policy
from processors.rollup import derive, merge
from processors.rollup.parts import part_of
from schemas.events import Arrival, Event, Send
from schemas.lifecycle import Lifecycle
from schemas.rollup import Rollup
from schemas.vonage.messages import decode_status
from schemas.vonage.sms import decode_receipt

from stories.telling import Sent, Step, Story, us

POLICY = Policy()
Lives = dict[str, Lifecycle]


def events_of(step: Step, start_us: int) -> list[Event] | list[Send]:
    """What the edge and the decoders make of a step."""
    if isinstance(step, Sent):
        return parse(step.body(start_us), us(start_us, step.at_s))
    arrival = Arrival(us(start_us, step.at_s), step.account or None)
    if step.kind == "status":
        return [decode_status(step.body(start_us), arrival)]
    return [decode_receipt(step.body(start_us), step.content_type, arrival)]


def live(story: Story, start_us: int) -> Lives:
    """The story as it is told."""
    lives: Lives = {}
    for step in story.steps:
        _wait(lives, us(start_us, step.at_s))
        _add(lives, step, start_us)
    return _ended(lives, story, start_us)


def live_at_once(story: Story, steps: Iterable[Step], start_us: int) -> Lives:
    """All steps at once, in this order, and then the silence."""
    lives: Lives = {}
    for step in steps:
        _add(lives, step, start_us)
    return _ended(lives, story, start_us)


def rolled_up(lives: Lives) -> dict[str, Rollup]:
    found: dict[str, Rollup] = {}
    for position, lifecycle in enumerate(lives.values()):
        part = part_of(lifecycle)
        if part is not None:
            before = found.get(part[0]) or merge.empty(part[0])
            found[part[0]] = merge.with_part(before, part[1], position)
    return {key: replace(r, summary=derive.summarise(r)) for key, r in found.items()}


def _ended(lives: Lives, story: Story, start_us: int) -> Lives:
    _wait(lives, us(start_us, story.until_s))
    return {key: replace(life, summary=summarise(life, POLICY)) for key, life in lives.items()}


def _wait(lives: Lives, until_us: int) -> None:
    for message_id, lifecycle in lives.items():
        while (due := next_deadline(lifecycle, POLICY)) is not None and due.at_us <= until_us:
            lifecycle = fire(lifecycle, due)
        lives[message_id] = lifecycle


def _add(lives: Lives, step: Step, start_us: int) -> None:
    for event in events_of(step, start_us):
        before = lives.get(event.message_id) or empty(event.message_id)
        if isinstance(event, Send):
            lives[event.message_id] = with_send(before, event)
        else:
            lives[event.message_id] = with_fact(before, event.fact)
