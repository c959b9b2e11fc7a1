"""Clients that are stopped while their broker is away: bounded, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from schemas.topics import STATUSES
from sendtrace.local.kafka import LocalKafka
from sendtrace.runtime import kafka as runtime_kafka
from sendtrace.runtime.kafka import KafkaClients, partitions_of, stop_quietly
from sendtrace.runtime.settings import Settings

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
