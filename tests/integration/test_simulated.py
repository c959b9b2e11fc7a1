"""The simulator's ledger against the pipeline: two opinions of the same traffic, worked out apart.

`everything` is played over HTTP, signed, against the real edge and joiner with an in-memory log;
then each message of the ledger is held against the lifecycle that came out.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import msgspec

from processors.rolling import decode_rollup
from schemas import rollup as topic
from schemas.lifecycle import Lifecycle
from schemas.metrics import MESSAGES
from schemas.topics import ROLLUPS
from sendtrace.local import secrets
from sendtrace.runtime.settings import Settings
from sendtrace.simulator.compare import (
    fact_differences,
    message_differences,
    rollup_differences,
)
from sendtrace.simulator.ledger import Book, Message, Rollup, read_ledger
from sendtrace.simulator.run import simulate

from engine import Output, output, read_all
from fakes.cluster import MemoryCluster
from fakes.warehouse import MemoryWarehouse
from pipeline import running_pipeline

# 73 hours pass in 13 seconds, and the hour after the 72nd in 0.18.
TIME_SCALE = 20_000.0
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


async def test_every_message_ends_as_the_ledger_expects(tmp_path: Path) -> None:
    cluster = stack(tmp_path, TIME_SCALE)
    path = tmp_path / "ledger.jsonl"
    async with running_pipeline(cluster.settings, cluster, MemoryWarehouse()) as pipe:
        settings = msgspec.structs.replace(
            cluster.settings,
            edge_port=int(pipe.public.rpartition(":")[2]),
            edge_internal_port=int(pipe.internal.rpartition(":")[2]),
        )
        tally = await simulate(settings, 150, 5, 1, path, asyncio.Event(), "everything")
        book = read_ledger(path)
        due_us = max(m.settles_at_us or 0 for m in book.messages.values())
        await asyncio.sleep(max(0.0, due_us / 1e6 - time.time()) + SETTLE_SECONDS)
        found = await output(cluster.clients, cluster.settings)
        latest = dict(await read_all(cluster.clients, cluster.settings, ROLLUPS))
    print(tally)
    assert book.cut_short == set()
    now_us = time.time_ns() // 1000
    told = differences(book, found.lifecycles, now_us)
    report(book, found, told)
    assert told == {}
    assert outcomes_in(found) == Counter(m.settled.outcome for m in book.messages.values())
    rollups = {key.decode(): decode_rollup(value) for key, value in latest.items()}
    assert rollups.keys() == book.rollups.keys()
    assert {i: d for i in rollups if (d := of_rollup(book.rollups[i], rollups[i], now_us))} == {}
    assert len({(r.kind, r.settled.outcome) for r in book.rollups.values()}) > 8


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


def report(book: Book, found: Output, told: dict[str, list[str]]) -> None:
    print(Counter(m.settled.outcome for m in book.messages.values()))
    sentences = Counter(sentence for each in told.values() for sentence in each)
    for sentence, count in sentences.most_common(40):
        example = next(one for one, each in told.items() if sentence in each)
        print(count, sentence, example)
        print("   ", book.messages.get(example))
        if sentence in list(sentences)[:6]:
            print("   ", found.lifecycles.get(example))
