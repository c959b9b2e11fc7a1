"""Runs joiners over any cluster (in memory or real) and reads what came out, for engine tests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from processors.join.contribution import contribution
from processors.join.derive import summarise
from processors.join.policy import Policy
from processors.store import Store
from processors.wiring import JOINER, Process, running
from schemas.codec import (
    TYPE_STATUS,
    Headers,
    cloud_event,
    decode_lifecycle,
    decode_positions,
    decode_totals,
)
from schemas.lifecycle import Lifecycle
from schemas.metrics import EVENTS, MESSAGES, withdrawn
from schemas.topics import LIFECYCLES, PARTS, STATUSES, TOTALS, partition_of
from schemas.totals import POSITIONS, LabelSet, label_set, parse_key
from sendtrace.runtime.kafka import Clients, Record, partitions_of
from sendtrace.runtime.loop import LoopMetrics
from sendtrace.runtime.reading import open_reader
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings

# Now: what was heard of weeks ago would be forgotten at once.
ARRIVED_US = time.time_ns() // 1000


def status_body(message_id: str, status: str, second: int = 0) -> bytes:
    return (
        f'{{"message_uuid":"{message_id}","to":"447700900000","from":"447700900001",'
        f'"timestamp":"2026-11-22T05:00:{second:02}Z","status":"{status}","channel":"sms",'
        '"usage":{"currency":"EUR","price":"0.0333"}}'
    ).encode()


def status_headers(number: int = 0) -> Headers:
    return cloud_event(
        ce_type=TYPE_STATUS,
        ce_id=str(number),
        source="/webhooks/status",
        at_us=ARRIVED_US + number,
        content_type="application/json",
    )


@dataclass
class Traffic:
    """Statuses for ``messages`` messages: submitted, delivered, and a repeat of one of them."""

    messages: int
    records: list[tuple[str, bytes, Headers]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for n in range(self.messages):
            for status, second in (("submitted", 1), ("delivered", 4), ("submitted", 1)):
                body = status_body(f"id-{n:06}", status, second)
                self.records.append((f"id-{n:06}", body, status_headers(len(self.records))))


async def produce(
    clients: Clients,
    settings: Settings,
    traffic: Iterable[tuple[str, bytes, Headers]],
    topic: str = STATUSES,
) -> None:
    """Write records as the edge does: keyed, murmur2, acks=all."""
    producer = clients.producer()
    await producer.start()
    batches: dict[int, object] = {}
    for key, body, headers in traffic:
        p = partition_of(key.encode(), settings.partitions)
        batch = batches.setdefault(p, producer.create_batch())
        added = batch.append(timestamp=None, key=key.encode(), value=body, headers=headers)  # type: ignore[attr-defined]
        assert added is not None
    for p, batch in batches.items():
        await (await producer.send_batch(batch, settings.topic(topic), partition=p))  # type: ignore[arg-type]
    await producer.stop()


@contextlib.asynccontextmanager
async def running_joiner(
    settings: Settings,
    clients: Clients,
    open_store: Callable[[int], Store],
    *,
    instance_id: str | None = None,
    cluster: str = "test",
    process: Process = JOINER,
    health: Health | None = None,
    accept_gap: bool = False,
) -> AsyncIterator[asyncio.Task[None]]:
    """A joiner (or another process) in a task of its own.

    Stopped in order at the end unless it failed or was killed.
    """
    stopping = asyncio.Event()
    async with running(
        process,
        settings,
        clients,
        open_store,
        cluster,
        instance_id,
        LoopMetrics(CollectorRegistry()),
        health or Health(),
        stopping,
        accept_gap,
    ) as loop:
        task = asyncio.create_task(loop.run(stopping))
        try:
            yield task
        finally:
            stopping.set()
            if not task.cancelled():
                await task


@dataclass
class Output:
    """What subscribers of the topics see, read_committed."""

    lifecycles: dict[str, Lifecycle]
    values: dict[str, bytes]
    written: Counter[str]  # how many times each lifecycle was written
    totals: dict[LabelSet, Counter[str]]

    def truth(self, name: str) -> Counter[LabelSet]:
        return Counter(
            {
                labels: counters[name] - counters[withdrawn(name)]
                for labels, counters in self.totals.items()
                if counters[name] - counters[withdrawn(name)]
            }
        )

    def events(self, *results: str) -> int:
        """How many input records of the joiner brought this; without ``results`` anything."""
        return sum(
            counters[EVENTS.name]
            for labels, counters in self.totals.items()
            if ("input", PARTS) not in labels
            and (not results or dict(labels).get("result") in results)
        )


async def read_all(clients: Clients, settings: Settings, name: str) -> list[tuple[bytes, bytes]]:
    """Key and value of every committed record of a topic."""
    records = await read_records(clients, settings, name)
    return [(record.key or b"", record.value or b"") for record in records]


async def read_records(clients: Clients, settings: Settings, name: str) -> list[Record]:
    """Every committed record of a topic."""
    found: list[Record] = []
    partitions = partitions_of(settings, name)
    async with open_reader(clients, partitions) as reader:
        for tp in partitions:
            reader.seek(tp, 0)
        reader.resume(*partitions)
        ends = await reader.end_offsets(partitions)
        while any([await reader.position(tp) < ends[tp] for tp in partitions]):
            for records in (await reader.getmany(timeout_ms=100)).values():
                found += records
    return found


async def output(clients: Clients, settings: Settings) -> Output:
    # Totals first: when they have counted an event, its lifecycle is there to be read.
    totals: dict[bytes, bytes] = dict(await read_all(clients, settings, TOTALS))
    lifecycles = await read_all(clients, settings, LIFECYCLES)
    latest = {key: value for key, value in dict(lifecycles).items() if value}  # no tombstones
    summed: dict[LabelSet, Counter[str]] = {}
    for key, value in totals.items():
        labels = parse_key(key).labels
        if isinstance(labels, dict):
            counters = Counter(decode_totals(value).counters)
            summed.setdefault(label_set(labels), Counter()).update(counters)
    return Output(
        {key.decode(): decode_lifecycle(value) for key, value in latest.items()},
        {key.decode(): value for key, value in latest.items()},
        Counter(key.decode() for key, _ in lifecycles),
        summed,
    )


async def until_joined(
    clients: Clients, settings: Settings, events: int, seconds: float = 60
) -> Output:
    """Wait until the totals have counted that many input records of the joiner."""
    async with asyncio.timeout(seconds):
        while True:
            found = await output(clients, settings)
            if found.events() >= events:
                return found
            await asyncio.sleep(0.05)


async def until_read(clients: Clients, settings: Settings, records: int, seconds: float) -> None:
    """Wait until the committed positions say that so many statuses were read."""
    async with asyncio.timeout(seconds):
        while await _read_so_far(clients, settings) < records:
            await asyncio.sleep(0.02)


async def _read_so_far(clients: Clients, settings: Settings) -> int:
    latest = dict(await read_all(clients, settings, TOTALS))
    return sum(
        decode_positions(value).next[STATUSES]
        for key, value in latest.items()
        if parse_key(key).labels == POSITIONS
    )


def assert_exact(found: Output, traffic: Traffic) -> None:
    """Nothing lost, nothing twice: ids, totals, and totals against the lifecycles themselves."""
    assert len(found.lifecycles) == traffic.messages
    assert {c.summary and c.summary.outcome for c in found.lifecycles.values()} == {"delivered"}
    assert all(len(c.facts) == 2 for c in found.lifecycles.values())
    assert found.events("new") == 2 * traffic.messages
    assert found.events("repeat") == traffic.messages
    expected: Counter[LabelSet] = Counter()
    for lifecycle in found.lifecycles.values():
        assert lifecycle.summary == summarise(lifecycle, Policy())
        for (labels, name), amount in contribution(lifecycle.summary).amounts.items():
            if name == MESSAGES.name:
                expected[labels] += amount
    assert found.truth(MESSAGES.name) == expected
