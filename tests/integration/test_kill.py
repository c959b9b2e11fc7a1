"""SIGKILL of each process while the simulator runs: nothing lost, nothing twice.

A first, small version of the proof: every process of the pipeline is killed and started again, one
after the other, under traffic. Then ledger, warehouse and totals must agree to the last message.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from schemas.metrics import MESSAGES
from sendtrace.local.process import choose_port
from sendtrace.runtime.kafka import KafkaClients
from sendtrace.runtime.settings import Settings
from sendtrace.simulator.ledger import read_ledger
from sinks.migrate import migrate

from chaos.processes import PIPELINE, Processes, running_processes
from engine import output

RATE = 60


async def test_each_process_killed_under_traffic(
    kafka_settings: Settings, postgres_dsn: str, tmp_path: Path
) -> None:
    ports = {f"{name}_port": choose_port(0) for name in (*PIPELINE, "edge_internal")}
    settings = msgspec.structs.replace(
        kafka_settings, postgres_dsn=postgres_dsn, edge_drain_seconds=0.2, **ports
    )
    await migrate(postgres_dsn)
    ledger, short = tmp_path / "ledger.jsonl", tmp_path / "short.toml"
    # An ordinary day in which nobody waits for more than six seconds.
    short.write_text("compression = 10\nlongest_seconds = 60\n")
    async with running_processes(Processes(settings, tmp_path)) as pipeline:
        await pipeline.start(
            "simulate", "--rate", str(RATE), "--for", "15s", "--ledger", str(ledger), "--seed", "7",
            "--scenario", str(short),
        )  # fmt: skip
        await asyncio.sleep(2)
        for name in ("joiner", "loader", "edge", "rollup", "exporter", "joiner"):
            await pipeline.kill(name)
            began = time.monotonic()
            await pipeline.start(name)
            await pipeline.until_ready(name)
            print(f"{name} was back after {time.monotonic() - began:.1f} s")
            await asyncio.sleep(1)
        assert await asyncio.wait_for(pipeline.running["simulate"].wait(), 60) == 0, pipeline.log(
            "simulate"
        )
        book = read_ledger(ledger)
        assert book.cut_short == set()
        expected = {one.message_id: one.told.outcome for one in book.messages.values()}
        await equal_within(settings, expected, 30)
        assert set((await pipeline.stop_all()).values()) == {0}
    found = await output(KafkaClients(settings), settings)
    assert {i: c.summary and c.summary.outcome for i, c in found.lifecycles.items()} == expected
    truth = Counter[str]()
    for labels, count in found.truth(MESSAGES.name).items():
        truth[dict(labels)["outcome"]] += count
    assert truth == Counter(expected.values())


async def equal_within(settings: Settings, expected: dict[str, str], seconds: float) -> None:
    """Warehouse and exporter show what the ledger expects, id by id and sum by sum."""
    database = await asyncpg.connect(settings.postgres_dsn)
    deadline = time.monotonic() + seconds
    while True:
        rows = {
            r[0]: r[1] for r in await database.fetch("select message_id, outcome from messages")
        }
        figures = await exported(settings)
        if (rows == expected and figures == Counter(expected.values())) or (
            time.monotonic() > deadline
        ):
            break
        await asyncio.sleep(0.2)
    await database.close()
    assert rows == expected
    assert figures == Counter(expected.values())


async def exported(settings: Settings) -> Counter[str]:
    """Messages by outcome, as /metrics shows them: entered minus withdrawn."""
    url = f"http://127.0.0.1:{settings.port('exporter')}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        text = await answer.text()
    counts = Counter[str]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "sendtrace_messages_total":
                counts[sample.labels["outcome"]] += int(sample.value)
            elif sample.name == "sendtrace_messages_withdrawn_total":
                counts[sample.labels["outcome"]] -= int(sample.value)
    return +counts
