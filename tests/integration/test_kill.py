"""SIGKILL of each process while the simulator runs: nothing lost, nothing twice.

A first, small version of the proof: every process of the pipeline is killed and started again, one
after the other, under traffic. Then ledger, warehouse and totals must agree to the last message.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from schemas.metrics import MESSAGES
from sendtrace.local.process import choose_port
from sendtrace.runtime.kafka import KafkaClients
from sendtrace.runtime.settings import Settings, to_environment
from sendtrace.simulator.ledger import read_ledger
from sinks.migrate import migrate

from engine import output

PROCESSES = ("edge", "joiner", "rollup", "loader", "exporter")
RATE = 60
START_SECONDS = 30


class Processes:
    """The pipeline as processes of their own. Killed and started by name."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        self.running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str, *arguments: str) -> None:
        log = (self._directory / f"{name}.log").open("ab")
        self.running[name] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sendtrace",
            name,
            *arguments,
            env={**os.environ, **to_environment(self._settings)},
            stdout=log,
            stderr=log,
        )
        log.close()

    async def until_ready(self, name: str) -> None:
        port = self._settings.port("edge_internal" if name == "edge" else name)
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
            while True:
                assert self.running[name].returncode is None, self.log(name)
                try:
                    async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def kill(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGKILL)
        await self.running[name].wait()

    async def stop_all(self) -> dict[str, int]:
        for process in self.running.values():
            if process.returncode is None:
                process.terminate()
        return {
            name: await asyncio.wait_for(process.wait(), 30)
            for name, process in self.running.items()
        }

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text()[-3000:]


@asynccontextmanager
async def processes(settings: Settings, directory: Path) -> AsyncIterator[Processes]:
    started = Processes(settings, directory)
    try:
        for name in PROCESSES:
            await started.start(name)
        for name in PROCESSES:
            await started.until_ready(name)
        yield started
    finally:
        for process in started.running.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_each_process_killed_under_traffic(
    kafka_settings: Settings, postgres_dsn: str, tmp_path: Path
) -> None:
    ports = {f"{name}_port": choose_port(0) for name in (*PROCESSES, "edge_internal")}
    settings = msgspec.structs.replace(
        kafka_settings, postgres_dsn=postgres_dsn, edge_drain_seconds=0.2, **ports
    )
    await migrate(postgres_dsn)
    ledger, short = tmp_path / "ledger.jsonl", tmp_path / "short.toml"
    # An ordinary day in which nobody waits for more than six seconds.
    short.write_text("compression = 10\nlongest_seconds = 60\n")
    async with processes(settings, tmp_path) as pipeline:
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
