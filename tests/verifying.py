"""A run of the simulator through the whole pipeline in memory, and what `verify` finds of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import generate_latest

from processors.policies import policy_of
from sendtrace.local import secrets
from sendtrace.runtime.settings import Settings
from sendtrace.simulator.ledger import Book, read_ledger
from sendtrace.simulator.requests import FILE as REQUESTS_FILE
from sendtrace.simulator.requests import Logged, read_requests
from sendtrace.simulator.run import simulate
from sendtrace.verify import gather
from sendtrace.verify.compare import compare
from sendtrace.verify.found import Found, Report
from sendtrace.verify.run import slack_us
from sinks.postgres import Warehouse

from fakes.cluster import MemoryCluster
from fakes.tampering import Fault, Kind, TamperingClients, TamperingWarehouse
from fakes.warehouse import MemoryWarehouse
from pipeline import running_pipeline

# 73 hours pass in 10.5 seconds; a message is forgotten after 24.
TIME_SCALE = 25_000.0
QUIET_SECONDS = 1.5


@dataclass
class Played:
    """A run that is over: what was sent, and what was found."""

    settings: Settings
    book: Book
    requests: list[Logged]
    found: Found
    struck_row: object = None

    def report(self) -> Report:
        policy = policy_of(self.settings)
        return compare(self.book, self.requests, self.found, policy, slack_us(self.settings))


async def played(
    tmp_path: Path,
    rate: float,
    seconds: float,
    scenario: str,
    faults: Sequence[Fault] = (),
    row_fault: Kind | None = None,
    **settings_changed: Any,
) -> Played:
    """Play a scenario in memory, and read everything when it has come to rest."""
    cluster, warehouse = _cluster(tmp_path), MemoryWarehouse()
    cluster.settings = msgspec.structs.replace(cluster.settings, **settings_changed)
    honest = cluster.clients
    if faults:
        cluster.clients = TamperingClients(honest, cluster.settings.topic_prefix, faults)
    loaded: Warehouse = warehouse
    if row_fault:
        loaded = TamperingWarehouse(warehouse, row_fault)  # type: ignore[assignment]
    ledger = tmp_path / "ledger.jsonl"
    async with running_pipeline(cluster.settings, cluster, loaded) as pipe:
        settings = msgspec.structs.replace(
            cluster.settings,
            edge_port=int(pipe.public.rpartition(":")[2]),
            edge_internal_port=int(pipe.internal.rpartition(":")[2]),
        )
        await simulate(settings, rate, seconds, 1, ledger, asyncio.Event(), scenario)
        await asyncio.sleep(QUIET_SECONDS)
        found = Found(
            now_us=time.time_ns() // 1000,
            topics=await gather.topics(honest, settings),
            tables={
                "messages": {(key,): row for key, row in warehouse.rows.items()},
                "message_events": warehouse.events,
                "rollups": {(key,): row for key, row in warehouse.rollups.items()},
                "inbound": warehouse.inbound,
            },
            figures=gather.parsed(generate_latest(pipe.registry).decode()),
        )
    requests = read_requests(ledger.with_name(REQUESTS_FILE))
    struck = loaded.key if isinstance(loaded, TamperingWarehouse) else None
    return Played(settings, read_ledger(ledger), requests, found, struck)


def _cluster(tmp_path: Path) -> MemoryCluster:
    folder = secrets.make(tmp_path)
    cluster = MemoryCluster(
        Settings(
            topic_prefix="test.",
            partitions=3,
            transaction_interval_ms=20,
            loader_interval_ms=20,
            edge_port=0,
            edge_internal_port=0,
            edge_drain_seconds=0,
            accounts_file=str(folder / secrets.ACCOUNTS_FILE),
            sends_token_file=str(folder / secrets.SENDS_TOKEN_FILE),
            data_dir=str(tmp_path),
            time_scale=TIME_SCALE,
        )
    )
    # Deadlines fire by the log's own append times.
    cluster.log.now_ms = lambda: time.time_ns() // 1_000_000
    return cluster
