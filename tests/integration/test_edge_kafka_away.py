"""Real Kafka goes away and comes back: 503 within the budget, 200 again by itself, nothing lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import pytest

from schemas.topics import STATUSES
from sendtrace.local.kafka import LocalKafka
from sendtrace.local.process import choose_port
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import KafkaClients
from sendtrace.runtime.settings import Settings

from engine import read_all
from fakes.wire import running_edge

BUDGET_SECONDS = 1.0
# A busy machine of two cores answers late, and that is not the edge's doing.
SLACK_SECONDS = 5.0
RETURN_SECONDS = 60.0


@dataclass
class Own:
    """A broker of the test's own, on ports that survive a restart."""

    directory: Path
    port: int
    controller_port: int
    kafka: LocalKafka

    @classmethod
    async def start(cls, directory: Path) -> Own:
        port = choose_port(0)
        controller_port = choose_port(0, but_not=port)
        kafka = await LocalKafka.start(directory, port=port, controller_port=controller_port)
        return cls(directory, port, controller_port, kafka)

    @property
    def pid(self) -> int:
        """Of the JVM: the guardian that it runs under is another process."""
        return self.kafka.pid

    async def restart(self) -> None:
        self.kafka = await LocalKafka.start(
            self.directory, port=self.port, controller_port=self.controller_port
        )


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Own]:
    broker = await Own.start(tmp_path / "kafka")
    yield broker
    await broker.kafka.stop()


@dataclass
class Load:
    """Webhooks without pause from a few clients; what each was answered, and how fast."""

    port: int
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    accepted: set[str] = field(default_factory=set)
    refused: int = 0
    slowest: float = 0.0
    last: int = 0
    running: bool = True

    async def client(self, session: aiohttp.ClientSession) -> None:
        while self.running:
            name = f"id-{next(self.numbers)}"
            body = b'{"message_uuid":"%b","status":"delivered"}' % name.encode()
            began = time.monotonic()
            url = f"http://127.0.0.1:{self.port}/webhooks/x"
            async with session.post(url, data=body) as response:
                status = response.status
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.last = status
            assert status in (200, 503)
            if status == 200:
                self.accepted.add(name)
            else:
                self.refused += 1
            await asyncio.sleep(0.005)

    async def until(self, status: int, seconds: float) -> float:
        """Seconds until the answer is this one."""
        began = time.monotonic()
        async with asyncio.timeout(seconds):
            while self.last != status:
                await asyncio.sleep(0.01)
        return time.monotonic() - began

    async def until_calm(self, seconds: float) -> None:
        """Until none is refused for a second: it is back for good."""
        async with asyncio.timeout(seconds):
            refused = -1
            while refused != self.refused:
                refused = self.refused
                await asyncio.sleep(1)


async def stop_and_continue(own: Own, load: Load) -> float:
    """Frozen for longer than the client's own time-out of 10 s."""
    os.kill(own.pid, signal.SIGSTOP)
    try:
        await load.until(503, BUDGET_SECONDS + SLACK_SECONDS)
        await asyncio.sleep(12)
        assert load.last == 503
    finally:
        os.kill(own.pid, signal.SIGCONT)
    return await load.until(200, RETURN_SECONDS)


async def kill_and_restart(own: Own, load: Load) -> float:
    own.kafka.kill()
    await load.until(503, BUDGET_SECONDS + SLACK_SECONDS)
    await own.restart()
    return await load.until(200, RETURN_SECONDS)


@pytest.mark.parametrize("happening", [stop_and_continue, kill_and_restart])
async def test_kafka_away(own: Own, happening: object) -> None:
    settings = Settings(
        kafka_bootstrap=own.kafka.bootstrap, topic_prefix="away.", partitions=3, edge_port=0,
        edge_internal_port=0, edge_drain_seconds=0, edge_budget_seconds=BUDGET_SECONDS,
    )  # fmt: skip
    await topics.apply(settings)
    clients = KafkaClients(settings)
    async with running_edge(settings, clients) as (public, _), aiohttp.ClientSession() as session:
        load = Load(public)
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(load.client(session))
            await load.until(200, RETURN_SECONDS)
            await asyncio.sleep(1)
            took = await happening(own, load)  # type: ignore[operator]
            await load.until_calm(RETURN_SECONDS)
            load.running = False
    print(f"{len(load.accepted)} accepted, {load.refused} refused, back after {took:.1f} s, "
          f"slowest answer {load.slowest:.2f} s")  # fmt: skip
    assert load.refused
    assert load.slowest < BUDGET_SECONDS + SLACK_SECONDS
    stored = {key for key, _ in await read_all(clients, settings, STATUSES)}
    assert load.accepted <= {(key or b"").decode() for key in stored}


async def test_real_kafka_takes_the_largest_body(kafka_settings: Settings) -> None:
    """1 MiB of value under a key of 1 KiB: above the broker's own default for a batch."""
    settings = msgspec.structs.replace(
        kafka_settings, edge_port=0, edge_internal_port=0, edge_drain_seconds=0
    )
    name = "\u6f22" * 256
    body = f'{{"message_uuid":"{name}","status":"delivered","x":"'.encode()
    body += b"x" * (settings.edge_body_limit_bytes - len(body) - 2) + b'"}'
    clients = KafkaClients(settings)
    async with running_edge(settings, clients) as (public, _), aiohttp.ClientSession() as session:
        posts = [session.post(f"http://127.0.0.1:{public}/webhooks/x", data=body) for _ in range(4)]
        assert [answer.status for answer in await asyncio.gather(*posts)] == [200] * 4
    assert await read_all(clients, settings, STATUSES) == [(name.encode(), body)] * 4
