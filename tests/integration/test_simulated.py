"""The simulator's ledger against the pipeline: two opinions of the same traffic, worked out apart.

`everything` is played over HTTP, signed, against the real edge, joiner and rollup with an in-memory
log; then each entry of the ledger is held against what came out.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from schemas import rollup as topic
from schemas.codec import decode_rollup
from schemas.lifecycle import Lifecycle
from schemas.metrics import MESSAGES
from schemas.topics import INBOUND, RECEIPTS, ROLLUPS, STATUSES
from sendtrace.local import secrets
from sendtrace.runtime.settings import Settings
from sendtrace.simulator.compare import (
    fact_differences,
    message_differences,
    rollup_differences,
)
from sendtrace.simulator.ledger import Book, Message, Rollup, read_ledger
from sendtrace.simulator.requests import FILE, read_requests
from sendtrace.simulator.run import simulate
from sendtrace.simulator.scenario import Scenario, load

from engine import Output, output, read_all
from fakes.cluster import MemoryCluster
from fakes.warehouse import MemoryWarehouse
from pipeline import running_pipeline

# 73 hours pass in 26 seconds, and the hour after the 72nd in 0.36.
TIME_SCALE = 10_000.0
SETTLE_SECONDS = 3.0


def stack(tmp_path: Path, time_scale: float) -> MemoryCluster:
    folder = secrets.make(tmp_path)
    cluster = MemoryCluster(
        Settings(
            topic_prefix="test.",
            partitions=3,
            transaction_interval_ms=20,
            loader_interval_ms=50,
            edge_port=0,
            edge_internal_port=0,
            edge_drain_seconds=0,
            accounts_file=str(folder / secrets.ACCOUNTS_FILE),
            sends_token_file=str(folder / secrets.SENDS_TOKEN_FILE),
            data_dir=str(tmp_path),
            time_scale=time_scale,
        )
    )
    # Deadlines fire by the log's own append times.
    cluster.log.now_ms = lambda: time.time_ns() // 1_000_000
    return cluster


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


@dataclass
class Played:
    """What was expected, and what came out of every topic."""

    book: Book
    found: Output
    rollups: dict[str, topic.Rollup]
    now_us: int


async def play(
    cluster: MemoryCluster, path: Path, rate: float, seconds: float, scenario: str | Scenario
) -> Played:
    """Until the last deadline went by."""
    async with running_pipeline(cluster.settings, cluster, MemoryWarehouse()) as pipe:
        settings = msgspec.structs.replace(
            cluster.settings,
            edge_port=int(pipe.public.rpartition(":")[2]),
            edge_internal_port=int(pipe.internal.rpartition(":")[2]),
        )
        tally = await simulate(settings, rate, seconds, 1, path, asyncio.Event(), scenario)
        print(tally)
        book = read_ledger(path)
        due_us = max(m.settles_at_us or 0 for m in book.messages.values())
        if due_us < (time.time() + 3600) * 1e6:
            await asyncio.sleep(max(0.0, due_us / 1e6 - time.time()))
        await asyncio.sleep(SETTLE_SECONDS)
        found = await output(cluster.clients, cluster.settings)
        latest = dict(await read_all(cluster.clients, cluster.settings, ROLLUPS))
    rollups = {key.decode(): decode_rollup(value) for key, value in latest.items()}
    return Played(book, found, rollups, time.time_ns() // 1000)


def assert_as_expected(played: Played) -> None:
    """Message by message, rollup by rollup, and the totals by outcome."""
    book, found, now_us = played.book, played.found, played.now_us
    assert book.cut_short == set()
    told = differences(book, found.lifecycles, now_us)
    report(book, told)
    assert told == {}
    assert outcomes_in(found) == Counter(
        m.standings(now_us)[0].outcome for m in book.messages.values()
    )
    assert played.rollups.keys() == book.rollups.keys()
    assert {
        key: sentences
        for key, rollup in played.rollups.items()
        if (sentences := of_rollup(book.rollups[key], rollup, now_us))
    } == {}


async def test_everything_ends_as_the_ledger_expects(tmp_path: Path) -> None:
    """Days in seconds: every deadline goes by, and nearly all of Vonage's times are equal."""
    cluster, path = stack(tmp_path, TIME_SCALE), tmp_path / "ledger.jsonl"
    played = await play(cluster, path, 150, 5, "everything")
    assert_as_expected(played)
    outcomes = {message.settled.outcome for message in played.book.messages.values()}
    assert {"missing", "unconfirmed", "expired", "unanswered", "untracked"} <= outcomes
    assert {rollup.kind for rollup in played.book.rollups.values()} == {"parts", "failover"}
    # What was answered with 200 is in Kafka under the id that the log of requests has for it.
    answered = {
        one.sent.ce_id
        for one in read_requests(path.with_name(FILE))
        if one.answer == "200" and one.sent.path != "/sends"
    }
    kept = {
        dict(record.headers)["ce_id"].decode()
        for name in (STATUSES, RECEIPTS, INBOUND)
        for record in cluster.log.records("test." + name)
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
    played = await play(stack(tmp_path, 1.0), tmp_path / "ledger.jsonl", 100, 4, scenario)
    assert_as_expected(played)
    took = Counter(message.carrier_latency_ms for message in played.book.messages.values())
    assert len(took) > 20
    assert sum(count for ms, count in took.items() if ms) > 50


def outcomes_in(found: Output) -> Counter[str]:
    """Of the totals, as the exporter would sum them up."""
    sums = Counter[str]()
    for labels, count in found.truth(MESSAGES.name).items():
        sums[dict(labels)["outcome"]] += count
    return sums


def of_rollup(expected: Rollup, rollup: topic.Rollup, now_us: int) -> list[str]:
    assert rollup.summary is not None
    seen = msgspec.structs.asdict(rollup.summary) | {"kind": rollup.kind}
    return rollup_differences(expected, expected.standings(now_us), seen)


def report(book: Book, told: dict[str, list[str]]) -> None:
    """Shown where the test fails: each kind of difference once, with an example."""
    sentences = Counter(sentence for each in told.values() for sentence in each)
    for sentence, count in sentences.most_common(20):
        example = next(one for one, each in told.items() if sentence in each)
        print(f"{count} {sentence} {example} {book.messages.get(example)}")
