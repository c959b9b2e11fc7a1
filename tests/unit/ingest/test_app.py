"""The process: ready once it can publish, drained in order, loud when something broke."""

from __future__ import annotations

import asyncio
import re

import msgspec
import pytest
from aiohttp import ClientSession
from aiokafka.errors import KafkaConnectionError

from ingest import errors
from ingest.app import EdgeBroken, serve
from ingest.errors import ANSWERS, Answer
from schemas.topics import STATUSES
from sendtrace.runtime import topic_watch
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import TopicChanged

from fakes.edge import HeldLog
from waiting import until

BODY = b'{"message_uuid":"id-1","status":"delivered"}'


class Running:
    """``serve`` in a task, with its ports."""

    def __init__(self, settings: Settings, log: HeldLog) -> None:
        self.stopping = asyncio.Event()
        self._ports: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(
            serve(settings, log, self.stopping, lambda *ports: self._ports.set_result(ports))
        )

    async def urls(self) -> tuple[str, str]:
        public, internal = await asyncio.wait_for(self._ports, 60)
        return f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}"


async def test_health_and_metrics_of_a_running_edge(settings: Settings) -> None:
    log = HeldLog()
    running = Running(settings, log)
    public, internal = await running.urls()
    async with ClientSession() as session:
        await session.post(f"{public}/webhooks/x", data=BODY)
        await until(lambda: len(log.records("sendtrace.pulses")) == settings.partitions)
        for path in ("/livez", "/readyz"):
            async with session.get(internal + path) as response:
                assert response.status == 200
        async with session.get(f"{internal}/metrics") as response:
            text = await response.text()
        labels = 'account="",answer="accepted",reason="",route="webhooks",status="200"'
        assert f"sendtrace_edge_answers_total{{{labels}}} 1.0" in text
        [acks] = re.findall(r"sendtrace_edge_ack_seconds_count (\d+)", text)
        assert int(acks) == 1 + settings.partitions  # each partition has had its pulse
        async with session.post(f"{public}/livez") as response:
            assert response.status == 404
    running.stopping.set()
    await asyncio.wait_for(running.task, 60)


async def test_drain_answers_what_came_and_then_stops(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, edge_drain_seconds=1.0)
    log = HeldLog()
    running = Running(settings, log)
    public, internal = await running.urls()
    async with ClientSession() as session:
        log.acknowledging.clear()
        waiting = asyncio.ensure_future(session.post(f"{public}/webhooks/x", data=BODY))
        await asyncio.sleep(0.05)
        running.stopping.set()
        await asyncio.sleep(0.05)
        async with session.get(f"{internal}/readyz") as response:
            assert response.status == 503
        # While load balancers notice, what still comes is served as ever.
        log.acknowledging.set()
        async with session.post(f"{public}/webhooks/x", data=BODY) as response:
            assert (response.status, response.headers["Connection"]) == (200, "close")
        log.acknowledging.clear()
        late = asyncio.ensure_future(session.post(f"{public}/webhooks/x", data=BODY))
        # Longer than drain and shutdown take without the flush.
        await asyncio.sleep(1.0 + 1.0)
        assert not running.task.done()  # it flushes: somebody waits
        log.acknowledging.set()
        assert (await waiting).status == 200
        assert (await late).status == 200
        await asyncio.wait_for(running.task, 60)
        assert log.producers[0].stopped
        with pytest.raises(OSError, match="Cannot connect"):
            await session.post(f"{public}/webhooks/x", data=BODY)


async def test_a_delivery_that_breaks_ends_the_process(settings: Settings) -> None:
    log = HeldLog()
    running = Running(settings, log)
    public, _ = await running.urls()
    await until(lambda: len(log.records("sendtrace.pulses")) == settings.partitions)
    log.failing.append(ZeroDivisionError())
    async with ClientSession() as session, session.post(f"{public}/webhooks/x", data=BODY) as gone:
        assert gone.status == 503
    with pytest.raises(EdgeBroken):
        await asyncio.wait_for(running.task, 60)


async def test_partitions_added_end_the_process_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it took afterwards would lie in a topic that nobody may read any more."""
    monkeypatch.setattr(topic_watch, "LOOK_SECONDS", 0.01)
    settings = msgspec.structs.replace(settings, edge_drain_seconds=60.0)
    log = HeldLog()
    running = Running(settings, log)
    public, _ = await running.urls()
    log.remake(settings.topic(STATUSES))  # what it writes is in the new one
    async with ClientSession() as session:
        await asyncio.sleep(0.1)
        async with session.post(f"{public}/webhooks/x", data=BODY) as response:
            assert response.status == 200
        log.counts[settings.topic(STATUSES)] = settings.partitions + 1
        with pytest.raises(TopicChanged, match="partitions and must have"):
            await asyncio.wait_for(running.task, 5)
        with pytest.raises(OSError, match="Cannot connect"):
            await session.post(f"{public}/webhooks/x", data=BODY)


async def test_without_kafka_the_start_fails(settings: Settings) -> None:
    log = HeldLog()
    log.failing_starts = 1
    with pytest.raises(KafkaConnectionError):
        await serve(settings, log, asyncio.Event())


def test_the_table_holds_every_answer_once() -> None:
    rows = [value for value in vars(errors).values() if isinstance(value, Answer)]
    assert sorted(row.name for row in rows) == sorted(row.name for row in ANSWERS)
    assert len({row.name for row in ANSWERS}) == len(ANSWERS)
    # Vonage ends its attempts at anything but 429 and 5xx: a 4xx must be final by nature.
    assert {row.http_status for row in ANSWERS} <= {200, 400, 401, 403, 404, 405, 413, 503}
