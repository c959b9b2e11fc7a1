"""The stories of ``tales.md``, told to the pure join in any order."""

from __future__ import annotations

import random
from itertools import chain

import msgspec
import pytest

from stories.pure import Lives, live, live_at_once, rolled_up
from stories.showing import show_lifecycle, show_rollup
from stories.telling import TALES, Cells, Story, StoryError, step

START_US = 1_795_323_600_000_000  # 2026-11-22T05:00:00Z


def shown(lives: Lives) -> dict[str, Cells]:
    return {key: show_lifecycle(lifecycle, START_US) for key, lifecycle in lives.items()}


@pytest.mark.parametrize("story", TALES, ids=lambda story: story.name)
def test_what_became_of_the_messages(story: Story) -> None:
    assert shown(live(story, START_US)) == story.messages


@pytest.mark.parametrize("story", TALES, ids=lambda story: story.name)
def test_what_became_of_the_send(story: Story) -> None:
    found = rolled_up(live(story, START_US))
    assert {key: show_rollup(rollup, START_US) for key, rollup in found.items()} == story.rollups


@pytest.mark.parametrize("story", TALES, ids=lambda story: story.name)
def test_it_ends_the_same_in_any_order(story: Story) -> None:
    """All steps at once, shuffled and told twice, and then the silence."""
    for seed in range(20):
        steps = [*story.steps, *story.steps]
        random.Random(seed).shuffle(steps)
        assert shown(live_at_once(story, steps, START_US)) == story.messages


def test_the_stories_hold_no_text() -> None:
    for story in TALES:
        assert b"never kept" not in msgspec.json.encode(list(live(story, START_US).values()))


def test_there_are_ten_and_no_message_is_in_two() -> None:
    """So all of them can be told at once."""
    assert len(TALES) == 10
    told = list(chain.from_iterable(story.messages for story in TALES))
    assert len(set(told)) == len(told) == 14


@pytest.mark.parametrize(
    "sentence",
    [
        "At noon a receipt: m delivered at 4 s.",
        "At 5 s a receipt: m delivered at 4 s, with pleasure.",
        "At 5 s a status: m delivered at 4 s, by SMS, item two of 2 of flow.",
        "At 0 s we hear of s, sent by the SMS API by pigeon: m accepted.",
        "At 0 s we hear of s, sent by the SMS API: m refused.",
    ],
)
def test_a_sentence_that_is_not_understood_is_an_error(sentence: str) -> None:
    with pytest.raises(StoryError):
        step(sentence)
