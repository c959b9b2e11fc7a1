"""The watch of the topics: what it takes for a change, and what not."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from sendtrace.runtime import topic_watch
from sendtrace.runtime.metadata import TopicState
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topic_watch import GONE_LOOKS, TopicWatch, watching
from sendtrace.runtime.topics import DependencyAway, TopicChanged

from fakes.log import MemoryLog

TOPIC = "sendtrace.statuses"
THERE = {TOPIC: TopicState("a", 3)}
Answer = dict[str, TopicState] | Exception


class Answers:
    """Answers these, one after another, and the last for ever."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def describe(self, names: Collection[str]) -> dict[str, TopicState]:
        assert list(names) == [TOPIC]
        await asyncio.sleep(0)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(topic_watch, "RETRY_SECONDS", 0.0)


async def watched(*answers: Answer, may_be_remade: bool = False) -> TopicWatch:
    """A watch that was told these."""
    watch = TopicWatch(Answers(*answers), {TOPIC: 3}, may_be_remade=may_be_remade)
    await watch.begin()
    watch.go_on()
    for _ in range(10 * len(answers)):
        await asyncio.sleep(0)
    return watch


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({TOPIC: TopicState("b", 3)}, "made anew while it was in use"),
        ({TOPIC: TopicState("a", 4)}, "has 4 partitions and must have 3"),
        ({TOPIC: TopicState("b", 1)}, "has 1 partitions and must have 3"),
        ({}, "is gone"),
    ],
)
async def test_a_change_is_told(answer: dict[str, TopicState], said: str) -> None:
    watch = await watched(THERE, THERE, answer)
    assert watch.changed.is_set()
    with pytest.raises(TopicChanged, match=said):
        watch.check()


async def test_what_is_no_change() -> None:
    """Kafka away, and a broker that has not heard of the topic yet."""
    away = KafkaConnectionError("away")
    watch = await watched(THERE, away, TimeoutError(), *[{}] * (GONE_LOOKS - 1), THERE)
    watch.check()
    assert not watch.changed.is_set()
    await watch.end()


async def test_who_only_writes_goes_on_with_a_topic_that_was_made_anew() -> None:
    watch = await watched(THERE, {}, {}, {TOPIC: TopicState("b", 3)}, may_be_remade=True)
    watch.check()
    await watch.end()
    with pytest.raises(TopicChanged):
        (await watched(THERE, {TOPIC: TopicState("b", 4)}, may_be_remade=True)).check()


async def test_at_the_start_any_broker_may_be_away_for_a_while() -> None:
    watch = await watched(NodeNotReadyError("away"), NodeNotReadyError("away"), THERE)
    assert watch.topic_ids == {TOPIC: "a"}
    await watch.end()


async def test_at_the_start_all_ids_are_waited_for() -> None:
    """A broker that just started may not have heard of a topic yet."""
    watch = await watched({}, {}, THERE)
    assert watch.topic_ids == {TOPIC: "a"}
    await watch.end()


async def test_what_nobody_foresaw_is_told_too() -> None:
    watch = await watched(THERE, ZeroDivisionError())
    assert watch.changed.is_set()
    with pytest.raises(ZeroDivisionError):
        watch.check()


async def test_when_none_answers_kafka_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "BEGIN_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(MemoryLog, "topic_reader", lambda log: Answers(NodeNotReadyError("away")))
    with pytest.raises(DependencyAway, match="does not answer"):
        async with watching(MemoryLog(), Settings(partitions=3), ["statuses"]):
            pass
