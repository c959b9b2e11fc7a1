"""The whole golden corpus by HTTP through edge, joiner and rollup, on real Kafka.

Once with an id of its own for each row, so that each lifecycle is what its row says and no more;
and once unchanged, where rows that share an id are one message.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace
from yarl import URL

from ingest.calls import parse
from processors.join import facts
from processors.join.derive import summarise
from processors.join.policy import Policy
from processors.rollup.parts import part_of
from processors.wiring import ROLLUP
from schemas.codec import decode_rollup, header
from schemas.events import Event, Send
from schemas.lifecycle import Lifecycle
from schemas.rollup import Part
from schemas.topics import INBOUND, QUARANTINE, RECEIPTS, ROLLUPS, SENDS, STATUSES
from schemas.vonage.decode import decode
from sendtrace.runtime.settings import Settings

import corpus
from corpus import ANSWERS, EVENTS, REQUESTS, ROWS, WEBHOOKS, Webhook
from engine import Output, read_all, read_records, running_joiner, until_joined
from fakes.cluster import KafkaCluster
from fakes.wire import running_edge

# Of the 584 rows. What is inbound, or in quarantine, is nobody's lifecycle.
FATES = {
    "status": 32, "receipt": 23, "inbound": 123, "quarantine": 5,
    "request": 318, "answer": 81, "no send": 2,
}  # fmt: skip


class Run:
    """A running pipeline, and what is to be counted when it is done."""

    def __init__(self, cluster: KafkaCluster, http: aiohttp.ClientSession, ports: tuple[int, int]):
        self.cluster = cluster
        self._http = http
        self._public, self._internal = (f"http://127.0.0.1:{port}" for port in ports)

    async def post_webhooks(self, webhooks: Iterable[Webhook]) -> None:
        await asyncio.gather(*(self._post_webhook(each) for each in webhooks))

    async def _post_webhook(self, hook: Webhook) -> None:
        headers = {} if hook.content_type is None else {"Content-Type": hook.content_type}
        url = URL(self._public + hook.target, encoded=True)
        data = hook.body or None
        async with self._http.request(hook.method, url, data=data, headers=headers) as response:
            assert response.status == 200

    async def post_sends(self, calls: Iterable[bytes]) -> None:
        await asyncio.gather(*(self._post_send(call) for call in calls))

    async def _post_send(self, call: bytes) -> None:
        async with self._http.post(self._internal + "/sends", data=call) as response:
            assert response.status == 200, (call, await response.text())

    async def joined(self, records: int) -> Output:
        return await until_joined(self.cluster.clients, self.cluster.settings, records)

    async def stored(self, topic: str) -> Counter[bytes]:
        found = await read_all(self.cluster.clients, self.cluster.settings, topic)
        return Counter(value for _, value in found)

    async def rolled_up(self, expected: dict[str, set[Part]]) -> None:
        """Wait for these rollups with these members, and no others."""
        try:
            async with asyncio.timeout(60):
                while await self.rollups() != expected:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            assert await self.rollups() == expected

    async def rollups(self) -> dict[str, set[Part]]:
        found = await read_all(self.cluster.clients, self.cluster.settings, ROLLUPS)
        return {
            key.decode(): standing
            for key, value in dict(found).items()
            if (standing := {i.part for i in decode_rollup(value).items if not i.part.moved})
        }


@pytest.fixture
async def run(kafka_settings: Settings, tmp_path: Path) -> AsyncIterator[Run]:
    settings = replace(kafka_settings, edge_port=0, edge_internal_port=0, edge_drain_seconds=0)
    async with running(KafkaCluster(settings, tmp_path / "state")) as run:
        yield run


@asynccontextmanager
async def running(cluster: KafkaCluster) -> AsyncIterator[Run]:
    settings, clients = cluster.settings, cluster.clients
    async with (
        running_joiner(settings, clients, cluster.open_store),
        running_joiner(settings, clients, cluster.rollup_store, process=ROLLUP),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as http,
        running_edge(settings, clients) as ports,
    ):
        yield Run(cluster, http, ports)


def in_workflows_and_parts(lifecycles: dict[str, Lifecycle]) -> dict[str, set[Part]]:
    """The members that rollups must have."""
    found: dict[str, set[Part]] = {}
    for lifecycle in lifecycles.values():
        told = part_of(lifecycle)
        if told is not None:
            found.setdefault(told[0], set()).add(told[1])
    return found


async def assert_the_rest_is_kept(run: Run) -> None:
    """Inbound and what was not understood, byte for byte, the latter with its reason."""
    stored = {row.number: corpus.webhook(row).stored for row in WEBHOOKS}
    inbound = Counter(stored[row.number] for row in WEBHOOKS if row.fate == "inbound")
    assert await run.stored(INBOUND) == inbound
    aside = await read_records(run.cluster.clients, run.cluster.settings, QUARANTINE)
    assert Counter((record.value, header(record.headers, "reason")) for record in aside) == Counter(
        (stored[row.number], row.golden["reason"]) for row in WEBHOOKS if row.fate == "quarantine"
    )


def test_every_row_has_its_fate() -> None:
    assert len(ROWS) == 584
    assert Counter(row.fate for row in ROWS) == FATES
    assert {row.number for row in ROWS if row.fate == "no send"} == {33, 316}
    assert len(WEBHOOKS) + len(REQUESTS) + len(ANSWERS) + FATES["no send"] == len(ROWS)
    unchanged = b"\n".join(corpus.calls_unchanged())
    assert all(corpus.raw(row) in unchanged for row in (*REQUESTS, *ANSWERS))


async def test_each_alone(run: Run) -> None:
    """Each with an id of its own: the lifecycle has its one fact or send, and the outcome."""
    began_us = time.time_ns() // 1000
    alone = [(row, *corpus.with_own_id(row)) for row in EVENTS]
    rest = [row for row in WEBHOOKS if row.fate in ("inbound", "quarantine")]
    calls = [*map(corpus.request_alone, REQUESTS), *map(corpus.answer_alone, ANSWERS)]
    sends = {send.message_id: send for _, found in calls for send in found}
    await asyncio.gather(
        run.post_webhooks(corpus.webhook(row, body) for row, _, body in alone),
        run.post_webhooks(map(corpus.webhook, rest)),
        run.post_sends(call for call, _ in calls),
    )
    found = await run.joined(len(alone) + len(sends))
    assert found.lifecycles.keys() == {own for _, own, _ in alone} | sends.keys()
    for row, own, _ in alone:
        lifecycle = found.lifecycles[own]
        arrived_us = lifecycle.facts[0].arrived_at_us
        assert began_us <= arrived_us <= time.time_ns() // 1000
        assert (lifecycle.facts, lifecycle.send) == ((corpus.fact_of(row, arrived_us),), None), row
        assert lifecycle.summary is not None
        assert lifecycle.summary.outcome == corpus.OUTCOMES[row.golden["status"]]
    for send in sends.values():
        lifecycle = found.lifecycles[send.message_id]
        assert lifecycle.send is not None
        assert began_us <= lifecycle.send.arrived_at_us <= time.time_ns() // 1000
        assert (replace(lifecycle.send, arrived_at_us=0), lifecycle.facts) == (send, ())
        assert lifecycle.summary is not None
        assert lifecycle.summary.outcome == corpus.outcome_of_send(send)
    assert found.events("new") == found.events() == len(alone) + len(sends)
    expected = in_workflows_and_parts(found.lifecycles)
    assert {key: {part.message_id for part in parts} for key, parts in expected.items()} == members(
        sends.values()
    )
    await run.rolled_up(expected)
    await assert_the_rest_is_kept(run)


def members(sends: Iterable[Send]) -> dict[str, set[str]]:
    """Who is in which rollup, by what the rows say: a workflow, or a send of several parts."""
    found: dict[str, set[str]] = {}
    for row in EVENTS:
        if "workflow_id" in row.golden:
            found.setdefault(row.golden["workflow_id"], set()).add(f"row-{row.number}")
    for send in sends:
        if send.workflow_id is not None:
            found.setdefault(send.workflow_id, set()).add(send.message_id)
        elif send.parts > 1:
            found.setdefault(send.send_id, set()).add(send.message_id)
    return found


async def test_unchanged(run: Run) -> None:
    """Rows with one id are one message: the union of what they say, in whatever order they came."""
    calls = list(corpus.calls_unchanged())
    of_several = [call for call in calls if len(parse(call, 0)) > 1]
    # Of two send ids the first by bytes stays. So, one at a time, these make messages move.
    of_several.sort(key=lambda call: parse(call, 0)[0].send_id, reverse=True)
    joined = 0
    for call in of_several:
        await run.post_sends([call])
        joined += len(parse(call, 0))
        await run.joined(joined)
    rest = [call for call in calls if call not in of_several]
    await asyncio.gather(run.post_webhooks(map(corpus.webhook, WEBHOOKS)), run.post_sends(rest))
    sends = [send for call in calls for send in parse(call, 0)]
    found = await run.joined(len(EVENTS) + len(sends))
    events = await inputs(run)
    assert_stored_unchanged(await run.stored(STATUSES) + await run.stored(RECEIPTS), events, sends)
    assert_each_fact_once(found.lifecycles)
    stored = {key: replace(value, due_at_us=None) for key, value in found.lifecycles.items()}
    for seed in range(5):
        random.Random(seed).shuffle(events)
        assert fold(events) == stored
    assert found.events("new", "repeat") == found.events() == len(events)
    await run.rolled_up(in_workflows_and_parts(stored))
    await assert_the_rest_is_kept(run)


async def inputs(run: Run) -> list[Event | Send]:
    """What the joiner was given, with the times at which the edge took it."""
    events: list[Event | Send] = []
    for topic in (STATUSES, RECEIPTS, SENDS):
        for record in await read_records(run.cluster.clients, run.cluster.settings, topic):
            event = decode(topic, record.value, record.headers, 0)
            assert isinstance(event, Event | Send)
            events.append(event)
    return events


def assert_stored_unchanged(
    bodies: Counter[bytes], events: list[Event | Send], sends: list[Send]
) -> None:
    assert bodies == Counter(corpus.webhook(row).stored for row in EVENTS)
    kept = [replace(event, arrived_at_us=0) for event in events if isinstance(event, Send)]
    assert Counter(kept) == Counter(sends)


def assert_each_fact_once(lifecycles: dict[str, Lifecycle]) -> None:
    """By what the rows say: of those that tell one fact of one message, one is left."""
    expected: dict[str, set[object]] = {}
    for row in EVENTS:
        told = expected.setdefault(row.golden["message_id"], set())
        told.add(facts.identity(corpus.fact_of(row, 0)))
    found = {key: lifecycle.facts for key, lifecycle in lifecycles.items() if lifecycle.facts}
    assert {key: set(map(facts.identity, known)) for key, known in found.items()} == expected
    assert all(len(known) == len(expected[key]) for key, known in found.items())


def fold(events: list[Event | Send]) -> dict[str, Lifecycle]:
    """The pure join of the events, in this order."""
    lives: dict[str, Lifecycle] = {}
    for event in events:
        before = lives.get(event.message_id) or facts.empty(event.message_id)
        if isinstance(event, Send):
            lives[event.message_id] = facts.with_send(before, event)
        else:
            lives[event.message_id] = facts.with_fact(before, event.fact)
    return {key: replace(life, summary=summarise(life, Policy())) for key, life in lives.items()}
