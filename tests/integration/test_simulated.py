"""The simulator's ledger against the pipeline: two opinions of the same traffic, worked out apart.

`everything` is played over HTTP, signed, against the real edge, joiner and rollup with an in-memory
log; then each entry of the ledger is held against what came out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from schemas.lifecycle import Lifecycle
from schemas.metrics import MESSAGES, withdrawn
from schemas.rollup import Rollup as RollupFound
from schemas.topics import INBOUND, RECEIPTS, STATUSES
from sendtrace.simulator.compare import (
    fact_differences,
    message_differences,
    rollup_differences,
)
from sendtrace.simulator.ledger import Book, Message, Rollup
from sendtrace.simulator.scenario import load
from sendtrace.verify.found import Series

from verifying import Played, in_memory, played

# 73 hours pass in 26 seconds, and the hour after the 72nd in 0.36.
TIME_SCALE = 10_000.0
SETTLE_SECONDS = 40.0


def differences(book: Book, lifecycles: dict[str, Lifecycle], now_us: int) -> dict[str, list[str]]:
    found = {}
    for message_id, expected in book.messages.items():
        lifecycle = lifecycles.get(message_id)
        found[message_id] = (
            ["it is not there"] if lifecycle is None else of_message(expected, lifecycle, now_us)
        )
    found |= {one: ["nobody sent it"] for one in lifecycles.keys() - book.messages.keys()}
    return {message_id: told for message_id, told in found.items() if told}


def of_message(expected: Message, lifecycle: Lifecycle, now_us: int) -> list[str]:
    assert lifecycle.summary is not None
    seen = msgspec.structs.asdict(lifecycle.summary)
    return message_differences(expected, expected.standings(now_us), seen) + fact_differences(
        expected, [(fact.status, fact.code) for fact in lifecycle.facts]
    )


def assert_as_expected(run: Played) -> None:
    """Message by message, rollup by rollup, and the totals by outcome."""
    book, found, now_us = run.book, run.found, run.found.now_us
    assert book.cut_short == set()
    told = differences(book, found.lifecycles, now_us)
    report(book, told)
    assert told == {}
    assert outcomes_in(found.figures) == Counter(
        m.standings(now_us)[0].outcome for m in book.messages.values()
    )
    assert found.rollups.keys() == book.rollups.keys()
    assert {
        key: sentences
        for key, rollup in found.rollups.items()
        if (sentences := of_rollup(book.rollups[key], rollup, now_us))
    } == {}


async def test_everything_ends_as_the_ledger_expects(tmp_path: Path) -> None:
    """Days in seconds: every deadline goes by, and nearly all of Vonage's times are equal."""
    stage = in_memory(tmp_path, TIME_SCALE)
    run = await played(stage, tmp_path, 150, 5, "everything", settle_seconds=SETTLE_SECONDS)
    assert_as_expected(run)
    outcomes = {message.settled.outcome for message in run.book.messages.values()}
    assert {"missing", "unconfirmed", "expired", "unanswered", "untracked"} <= outcomes
    assert {rollup.kind for rollup in run.book.rollups.values()} == {"parts", "failover"}
    # What was answered with 200 is in Kafka under the id that the log of requests has for it.
    answered = {
        one.sent.ce_id for one in run.requests if one.answer == "200" and one.sent.path != "/sends"
    }
    kept = {
        dict(record.headers)["ce_id"].decode()
        for name in (STATUSES, RECEIPTS, INBOUND)
        for record in run.found.topics[name]
    }
    assert answered == kept


async def test_at_the_pace_of_life_latencies_are_the_ledgers_too(tmp_path: Path) -> None:
    """Seconds as seconds: no deadline goes by, and Vonage's times differ."""
    everything = load("everything")
    endings = {
        name: {ending: weight for ending, weight in table.items() if ending != "late"}
        for name in ("sms", "text", "chat")
        if (table := getattr(everything, name))
    }
    scenario = msgspec.structs.replace(
        everything, compression=3.0, longest_seconds=21, phases=(), **endings
    )
    run = await played(in_memory(tmp_path, 1.0), tmp_path, 100, 4, scenario)
    assert_as_expected(run)
    took = Counter(message.carrier_latency_ms for message in run.book.messages.values())
    assert len(took) > 20
    assert sum(count for ms, count in took.items() if ms) > 50


def outcomes_in(figures: Mapping[Series, float]) -> Counter[str]:
    """Of the totals, as the exporter shows them."""
    sums = Counter[str]()
    for (name, labels), count in figures.items():
        if name == MESSAGES.name:
            sums[dict(labels)["outcome"]] += round(count)
        if name == withdrawn(MESSAGES.name):
            sums[dict(labels)["outcome"]] -= round(count)
    return +sums


def of_rollup(expected: Rollup, rollup: RollupFound, now_us: int) -> list[str]:
    assert rollup.summary is not None
    seen = msgspec.structs.asdict(rollup.summary) | {"kind": rollup.kind}
    return rollup_differences(expected, expected.standings(now_us), seen)


def report(book: Book, told: dict[str, list[str]]) -> None:
    """Shown where the test fails: each kind of difference once, with an example."""
    sentences = Counter(sentence for each in told.values() for sentence in each)
    for sentence, count in sentences.most_common(20):
        example = next(one for one, each in told.items() if sentence in each)
        print(f"{count} {sentence} {example} {book.messages.get(example)}")
