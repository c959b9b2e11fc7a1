"""Clients that are stopped while their broker is away: bounded, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client import CollectorRegistry

from processors.joining import INPUTS
from processors.wiring import JOINER, group_of, running
from schemas.topics import STATUSES
from sendtrace.local.kafka import LocalKafka
from sendtrace.local.process import choose_port
from sendtrace.runtime import kafka as runtime_kafka
from sendtrace.runtime.kafka import KafkaClients, partitions_of, stop_quietly
from sendtrace.runtime.loop import LoopMetrics
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings, to_environment

from fakes.cluster import KafkaCluster

STOP_SECONDS = 0.5
# A busy machine is late; a client that waits for its broker takes half a minute and more.
SLACK_SECONDS = 10.0


@contextmanager
def frozen(kafka: LocalKafka) -> Iterator[None]:
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka.pid, signal.SIGCONT)


@pytest.fixture
async def nothing_left(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Every task that the test began has ended some seconds after it."""
    monkeypatch.setattr(runtime_kafka, "STOP_TIMEOUT_SECONDS", STOP_SECONDS)
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(60):
        while asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("nothing_left")
async def test_a_producer_with_a_batch_in_flight(
    kafka: LocalKafka, kafka_settings: Settings
) -> None:
    producer = KafkaClients(kafka_settings).producer(transactional_id="stopped")
    await producer.start()
    await producer.begin_transaction()

    async def send() -> asyncio.Future[Any]:
        batch = producer.create_batch()
        batch.append(timestamp=None, key=b"key", value=b"value", headers=[])
        return await producer.send_batch(batch, kafka_settings.topic(STATUSES), partition=0)

    await (await send())  # it knows the topic
    with frozen(kafka):
        await send()
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await stop_quietly(producer)
        assert time.monotonic() - began < STOP_SECONDS + SLACK_SECONDS


@pytest.mark.usefixtures("nothing_left")
async def test_a_member_of_a_group(kafka: LocalKafka, kafka_settings: Settings) -> None:
    consumer = KafkaClients(kafka_settings).group_consumer("stopped", None)
    consumer.subscribe([kafka_settings.topic(STATUSES)])
    await consumer.start()
    for partition in partitions_of(kafka_settings, STATUSES):
        consumer.seek(partition, 0)
    await consumer.getmany(timeout_ms=200)
    with frozen(kafka):
        began = time.monotonic()
        await stop_quietly(consumer)
        assert time.monotonic() - began < STOP_SECONDS + SLACK_SECONDS


# What the group waits for the dead, and so what a member waits for its first assignment.
SESSION_MS = 30_000
AT_ONCE_SECONDS = 5.0


@asynccontextmanager
async def who_joins_waits(settings: Settings, tmp_path: Path) -> AsyncIterator[KafkaCluster]:
    """Another member of the joiners' group was killed: whoever joins waits until it is given up."""
    cluster = KafkaCluster(settings, tmp_path / "state")
    member = cluster.clients.group_consumer(group_of(settings), "killed")
    member.subscribe([settings.topic(name) for name in INPUTS])
    await member.start()
    await cluster.kill(member)
    yield cluster
    await cluster.clients.leave_group(group_of(settings), "killed")


async def until_it_joins(settings: Settings) -> None:
    """The group has heard of the member, and gathers the others."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(60):
            while True:
                [response] = await admin.describe_consumer_groups([group_of(settings)])
                if response.groups[0][2] == "PreparingRebalance":
                    return
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


@pytest.mark.usefixtures("nothing_left")
async def test_a_member_that_waits_for_its_first_assignment(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(kafka_settings, session_timeout_ms=SESSION_MS)
    async with who_joins_waits(settings, tmp_path) as cluster:
        stopping = asyncio.Event()

        async def run() -> None:
            async with running(
                JOINER, settings, cluster.clients, cluster.open_store, "test", "waits",
                LoopMetrics(CollectorRegistry()), Health(), stopping,
            ) as loop:  # fmt: skip
                await loop.run(stopping)

        before = asyncio.all_tasks()
        joiner = asyncio.create_task(run())
        await until_it_joins(settings)
        began = time.monotonic()
        stopping.set()
        await joiner
        assert time.monotonic() - began < AT_ONCE_SECONDS
        assert asyncio.all_tasks() - before - {joiner} == set()


async def test_a_process_that_waits_for_its_first_assignment(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        kafka_settings, joiner_port=choose_port(0), session_timeout_ms=SESSION_MS
    )
    async with who_joins_waits(settings, tmp_path):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "sendtrace", "joiner"),
            env={**os.environ, **to_environment(settings)},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            await until_it_joins(settings)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, told = await asyncio.wait_for(process.communicate(), 90)
            took_seconds = time.monotonic() - began
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert (process.returncode, told) == (0, b"")
    assert took_seconds < AT_ONCE_SECONDS


class Spoilt:
    """Its stop is cancelled by one of its own tasks, as that of aiokafka's fetcher is."""

    def __init__(self) -> None:
        self._client = self
        self.closed = False

    async def stop(self) -> None:
        fetch = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch

    async def close(self) -> None:
        self.closed = True


async def test_a_stop_that_cancels_itself_does_not_cancel_who_asked_for_it() -> None:
    client = Spoilt()
    await stop_quietly(client)  # type: ignore[arg-type]
    assert client.closed
