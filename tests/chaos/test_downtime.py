"""Joiner and rollup are away for three days, and what came meanwhile stands in the backlog.

Real processes on real Kafka and PostgreSQL, where 10,000 seconds pass in one. They are away for as
long as the longest deadline: of whatever was joined before, it went by meanwhile. When they are
back nothing may be told `missing` or `unconfirmed`, not for a moment, whose last word is there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import decode_lifecycle
from schemas.lifecycle import Lifecycle
from schemas.metrics import MESSAGES, SENDS, withdrawn
from schemas.topics import LIFECYCLES, RECEIPTS, STATUSES
from sendtrace.local import secrets
from sendtrace.runtime.kafka import KafkaClients
from sendtrace.runtime.settings import Settings, to_environment
from sendtrace.simulator.endings import HOUR, Ending
from sendtrace.simulator.ledger import read_ledger
from sendtrace.simulator.run import simulate
from sendtrace.simulator.scenario import YEAR, Phase, Scenario, Shares
from sendtrace.verify import gather
from sendtrace.verify.found import Kept
from sinks.migrate import migrate

from chaos.brokers import free_ports
from chaos.driving import until
from chaos.processes import PIPELINE, Processes, running_processes

TESTS = Path(__file__).parents[1]
STAGES = ("joiner", "rollup")
TIME_SCALE = 10_000.0
AWAY_SECONDS = 73 * HOUR / TIME_SCALE
# So many sends are joined before; more go on, and the last words come a day or two after them.
BEFORE = 80
RATE, SENDING_SECONDS = 60.0, 4.0
SILENCES = {"missing", "unconfirmed"}

_SMS: dict[Ending, int] = {"delivered": 60, "failed": 10, "silent": 20, "intermediate": 10}
_TEXT: dict[Ending, int] = {"delivered": 60, "rejected": 10, "silent": 20, "intermediate": 10}
SLOW = Scenario(
    longest_seconds=48 * HOUR,
    shares=Shares(lost=0.5),
    sms=_SMS,
    text=_TEXT,
    # Seconds become half a day. No file may ask for that: outside this test it is no life.
    phases=(Phase(from_seconds=0, to_seconds=YEAR, latency=20_000),),
)


@pytest.fixture
async def settings(kafka_settings: Settings, postgres_dsn: str, tmp_path: Path) -> Settings:
    await migrate(postgres_dsn)
    folder = secrets.make(tmp_path)
    names = [f"{name}_port" for name in (*PIPELINE, "edge_internal")]
    return msgspec.structs.replace(
        kafka_settings,
        postgres_dsn=postgres_dsn,
        accounts_file=str(folder / secrets.ACCOUNTS_FILE),
        sends_token_file=str(folder / secrets.SENDS_TOKEN_FILE),
        edge_drain_seconds=0.0,
        time_scale=TIME_SCALE,
        transaction_limit_records=5,  # a backlog of days takes many transactions
        **dict(zip(names, free_ports(len(names)), strict=True)),
    )


@pytest.mark.timeout(300)
async def test_a_backlog_of_three_days_is_not_silence(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", path)  # for chaos.small_polls
    modules = {"joiner": ("chaos.small_polls",)}
    ledger = tmp_path / "ledger.jsonl"
    async with running_processes(Processes(settings, tmp_path, modules=modules)) as processes:
        left_ms, back_ms = await away(processes, ledger)
        code, told = await verified(settings, ledger)
        topics = await gather.topics(KafkaClients(settings), settings)
        withdrawals = {each: await figure(settings, withdrawn(MESSAGES.name), outcome=each)
                       for each in ("pending", *SILENCES)}  # fmt: skip

    assert (code, told["equal"]) == (0, True), told
    book = read_ledger(ledger)
    # On a busy machine a week is over for some when they are compared.
    compared = told["compared"].get("messages forgotten", 0) + told["compared"]["messages"]
    assert compared == len(book.messages) > BEFORE

    # A last word that is read after a false deadline makes it good again, so what it was once is
    # asked for; also of /metrics, which alerts are made of.
    foretold = {one: message.settled.outcome for one, message in book.messages.items()}
    history = lifecycles(topics[LIFECYCLES])
    stood = outcomes(history)
    assert {one: was for one, was in stood.items() if (was & SILENCES) - {foretold[one]}} == {}
    assert [outcome for outcome, number in withdrawals.items() if number] == ["pending"]

    left = lifecycles(kept for kept in topics[LIFECYCLES] if kept.timestamp_ms < left_ms)
    waiting = {one for one, was in outcomes(left).items() if was == {"pending"}}
    # Silence was noticed, though its deadlines went by while nobody watched; and none of them was
    # moved by an absence of the joiner, as it is by one of the edge.
    silent = {one for one in waiting if foretold[one] in SILENCES}
    assert {foretold[one] for one in silent} == SILENCES
    final_us = {lifecycle.message_id: due.at_us for lifecycle in history
                for due in lifecycle.overdue if due.kind == "final"}  # fmt: skip
    assert silent <= final_us.keys()
    assert max(final_us[one] for one in silent) < (back_ms / 1000 + AWAY_SECONDS / 2) * 1_000_000
    # What came meanwhile would have been taken for it: where there was no word yet, or no last one.
    came = {(kept.key or b"").decode() for name in (STATUSES, RECEIPTS) for kept in topics[name]
            if left_ms < kept.timestamp_ms < back_ms}  # fmt: skip
    in_backlog = (waiting - silent) & came
    heard = {lifecycle.message_id for lifecycle in left if lifecycle.facts}
    print(f"{len(in_backlog - heard)} and {len(in_backlog & heard)} of {len(waiting)} waiting")
    assert len(in_backlog - heard) > 5
    assert len(in_backlog & heard) > 5


async def away(processes: Processes, ledger: Path) -> tuple[int, int]:
    """Play, and let the stages be away meanwhile: from when until when."""
    settings = processes.settings
    traffic = asyncio.create_task(
        simulate(settings, RATE, SENDING_SECONDS, 1, ledger, asyncio.Event(), SLOW)
    )

    async def are_joined() -> bool:
        return await figure(settings, SENDS.name) >= BEFORE

    await until(are_joined, f"{BEFORE} sends joined")
    for name in STAGES:
        await processes.kill(name)
    left_ms = time.time_ns() // 1_000_000
    await asyncio.sleep(AWAY_SECONDS)
    back_ms = time.time_ns() // 1_000_000
    for name in STAGES:
        await processes.start(name)
    for name in STAGES:
        await processes.until_ready(name)
    tally = await traffic
    assert tally.given_up == 0
    return left_ms, back_ms


async def figure(settings: Settings, name: str, **labels: str) -> float:
    """The sum of a metric over all series with these labels."""
    page = await gather.figures(f"http://127.0.0.1:{settings.port('exporter')}/metrics")
    return sum(number for (of, its), number in page.items()
               if of == name and labels.items() <= dict(its).items())  # fmt: skip


async def verified(settings: Settings, ledger: Path) -> tuple[int, dict[str, Any]]:
    """What the command answers, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sendtrace", "verify", "--ledger", str(ledger), "--json",
        "--wait", "20s", env={**os.environ, **to_environment(settings)}, stdout=PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, json.loads(out)


def lifecycles(records: Iterable[Kept]) -> list[Lifecycle]:
    return [decode_lifecycle(kept.value) for kept in records if kept.value]


def outcomes(history: Iterable[Lifecycle]) -> dict[str, set[str]]:
    """All that each message ever stood at."""
    found: dict[str, set[str]] = defaultdict(set)
    for lifecycle in history:
        if lifecycle.summary is not None:
            found[lifecycle.message_id].add(lifecycle.summary.outcome)
    return found
