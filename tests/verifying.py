"""A run of the simulator through the whole pipeline, in memory or real, and what `verify` finds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import generate_latest

from processors.policies import policy_of
from sendtrace.local import secrets
from sendtrace.runtime.kafka import Clients
from sendtrace.runtime.settings import Settings
from sendtrace.simulator.ledger import Book, read_ledger
from sendtrace.simulator.requests import FILE as REQUESTS_FILE
from sendtrace.simulator.requests import Logged, read_requests
from sendtrace.simulator.run import simulate
from sendtrace.simulator.scenario import Scenario
from sendtrace.verify import gather
from sendtrace.verify.compare import compare
from sendtrace.verify.found import Difference, Found, Key, Report
from sendtrace.verify.run import at_rest, settled, slack_us
from sinks.loader import inbound_reading
from sinks.migrate import migrate
from sinks.postgres import PostgresWarehouse, Warehouse
from sinks.rows import Row

from fakes.cluster import Cluster, KafkaCluster, MemoryCluster
from fakes.tampering import Fault, Kind, TamperingClients, TamperingWarehouse
from fakes.warehouse import MemoryWarehouse
from pipeline import running_pipeline

# 73 hours pass in 10.5 seconds; a message is forgotten after 24.
MEMORY_TIME_SCALE = 25_000.0
# On real servers a run takes longer: 73 hours pass in 26 seconds, a week in a minute.
KAFKA_TIME_SCALE = 10_000.0
# Well within the time after which the first message is forgotten.
REST_SECONDS = 15.0

Tables = Mapping[str, Mapping[Key, Row]]


@dataclass
class Stage:
    """What a run is played on: a cluster, a warehouse, and how its tables are read."""

    cluster: Cluster
    warehouse: Warehouse
    tables: Callable[[], Awaitable[Tables]]


def in_memory(tmp_path: Path, time_scale: float = MEMORY_TIME_SCALE) -> Stage:
    settings = Settings(topic_prefix="test.", partitions=3, transaction_interval_ms=20)
    cluster = MemoryCluster(_playable(settings, tmp_path, time_scale))
    # Deadlines fire by the log's own append times.
    cluster.log.now_ms = lambda: time.time_ns() // 1_000_000
    warehouse = MemoryWarehouse()
    return Stage(cluster, warehouse, warehouse.tables)


async def on_kafka(settings: Settings, dsn: str, tmp_path: Path) -> Stage:
    """Real Kafka with its topics made, RocksDB, and an empty PostgreSQL, which gets its schema."""
    await migrate(dsn)
    playable = _playable(settings, tmp_path, KAFKA_TIME_SCALE)
    cluster = KafkaCluster(playable, tmp_path / "state")
    return Stage(cluster, PostgresWarehouse(dsn), lambda: gather.tables(dsn))


def _playable(settings: Settings, tmp_path: Path, time_scale: float) -> Settings:
    """With accounts, on any free ports, and quick."""
    folder = secrets.make(tmp_path)
    return msgspec.structs.replace(
        settings,
        loader_interval_ms=20,
        edge_port=0,
        edge_internal_port=0,
        edge_drain_seconds=0,
        accounts_file=str(folder / secrets.ACCOUNTS_FILE),
        sends_token_file=str(folder / secrets.SENDS_TOKEN_FILE),
        data_dir=str(tmp_path),
        time_scale=time_scale,
    )


@dataclass
class Played:
    """A run that is over: what was sent, and what was found."""

    settings: Settings
    book: Book
    requests: list[Logged]
    found: Found
    struck_row: object = None

    def report(self) -> Report:
        settings = self.settings
        return compare(
            self.book,
            self.requests,
            self.found,
            policy_of(settings),
            inbound_reading(settings),
            slack_us(settings),
        )


async def played(
    stage: Stage,
    tmp_path: Path,
    rate: float,
    seconds: float,
    scenario: str | Scenario,
    faults: Sequence[Fault] = (),
    row_fault: Kind | None = None,
    settle_seconds: float = 0.0,
    afterwards: Callable[[Clients, Settings, Book], Awaitable[object]] | None = None,
    **settings_changed: Any,
) -> Played:
    """Play a scenario, do something ``afterwards``, and read everything when it has come to rest;
    before that wait for the deadlines that go by within ``settle_seconds``."""
    cluster, loaded = stage.cluster, stage.warehouse
    cluster.settings = msgspec.structs.replace(cluster.settings, **settings_changed)
    honest = cluster.clients
    if faults:
        cluster.clients = TamperingClients(honest, cluster.settings.topic_prefix, faults)
    if row_fault:
        loaded = TamperingWarehouse(loaded, row_fault)  # type: ignore[assignment]
    ledger = tmp_path / "ledger.jsonl"
    async with running_pipeline(cluster.settings, cluster, loaded) as pipe:
        settings = msgspec.structs.replace(
            cluster.settings,
            edge_port=int(pipe.public.rpartition(":")[2]),
            edge_internal_port=int(pipe.internal.rpartition(":")[2]),
        )
        await simulate(settings, rate, seconds, 1, ledger, asyncio.Event(), scenario)
        book = read_ledger(ledger)
        if afterwards is not None:
            await afterwards(honest, settings, book)
            book = read_ledger(ledger)  # it may have told more
        await settled(book, settings, time.monotonic() + settle_seconds, print)
        assert await at_rest(settings, honest, time.monotonic() + REST_SECONDS, print)
        found = Found(
            now_us=time.time_ns() // 1000,
            topics=await gather.topics(honest, settings),
            tables=await stage.tables(),
            figures=gather.parsed(generate_latest(pipe.registry).decode()),
        )
    requests = read_requests(ledger.with_name(REQUESTS_FILE))
    struck = loaded.key if isinstance(loaded, TamperingWarehouse) else None
    return Played(settings, book, requests, found, struck)


def swapped(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda value: value.replace(old, new, 1)


DELIVERED = swapped(b'"outcome":"delivered"', b'"outcome":"rejected"')


def faults(kind: Kind) -> list[Fault]:
    """One for each topic."""
    return [
        Fault("sends", kind, swapped(b'"refused":true', b'"refused":false'), once=True),
        Fault("statuses", kind, swapped(b"delivered", b"submitted"), once=True),
        Fault("receipts", kind, swapped(b"delivered", b"accepted"), once=True),
        Fault("inbound", kind, swapped(b"msisdn", b"nobody"), once=True, nth=2),
        Fault("lifecycles", kind, DELIVERED),
        Fault("parts", kind, swapped(b'"kind":"parts"', b'"kind":"failover"')),
        Fault("rollups", kind, DELIVERED),
        Fault("totals", kind, swapped(b'"messages":', b'"messages":1')),
    ]


def assert_equal(run: Played) -> None:
    """Everything that there is was compared, and is equal."""
    report = run.report()
    assert report.differences == []
    assert report.notes == []
    assert len(run.book.messages) > 250
    assert report.compared["messages"] == len(run.book.messages)
    assert report.compared["rows of messages"] == len(run.book.messages)
    assert report.compared["rollups"] == len(run.book.rollups) > 20
    assert report.compared["inbound messages"] == len(run.book.inbound)
    assert report.compared["rows of inbound"] == len(run.book.inbound) > 5
    assert report.compared["series of /metrics"] > 100
    assert report.compared["latencies observed"] > len(run.book.messages)


def assert_found(run: Played, planted: Sequence[Fault]) -> None:
    """Each of the faults struck, and the report tells of each."""
    report = run.report()
    assert {fault.topic for fault in planted if fault.struck} == {f.topic for f in planted}
    assert {f.topic: _told(f, report) for f in planted if not _told(f, report)} == {}


def assert_row_found(run: Played) -> None:
    """The row that was struck, and nothing else."""
    assert {(d.where, d.key) for d in run.report().differences} == {("warehouse", run.struck_row)}


def _told(fault: Fault, report: Report) -> list[Difference]:
    """What the report says of it: by its key, its request, or by labels in the figures."""
    if fault.topic == "totals":
        return [each for each in report.differences if each.where in ("metrics", "totals")]
    key = (fault.key or b"").decode()
    return [each for each in report.differences if each.key in (key, fault.ce_id)]
