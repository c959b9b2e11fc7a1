"""The watchdog over a real consumer: idle is live, a fetch that hangs is not, Kafka away is."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher

from sendtrace.local.kafka import LocalKafka
from sendtrace.runtime import watch
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings

from engine import Traffic, produce, running_joiner, until_joined
from fakes.cluster import KafkaCluster

# A busy machine may leave a loop, or the broker that it asks, without a turn for a while.
STUCK_SECONDS = 5.0


@asynccontextmanager
async def idle_joiner(settings: Settings, directory: Path) -> AsyncIterator[Health]:
    """It has joined something, and nothing more comes."""
    cluster, health = KafkaCluster(settings, directory), Health(STUCK_SECONDS)
    traffic = Traffic(10)
    await produce(cluster.clients, settings, traffic.records)
    async with running_joiner(settings, cluster.clients, cluster.open_store, health=health):
        await until_joined(cluster.clients, settings, len(traffic.records))
        yield health


async def stays_live(health: Health, seconds: float) -> None:
    for _ in range(int(seconds / 0.1)):
        assert not health.why_not_live()
        await asyncio.sleep(0.1)


async def test_idle_is_live_and_a_fetch_that_hangs_is_not(
    kafka_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with idle_joiner(kafka_settings, tmp_path) as health:
        await stays_live(health, 1.5 * STUCK_SECONDS)

        async def hang(*_: Any) -> bool:
            await asyncio.sleep(600)
            return False

        monkeypatch.setattr(Fetcher, "_proc_fetch_request", hang)
        async with asyncio.timeout(60):
            while "has not moved" not in health.why_not_live():
                await asyncio.sleep(0.05)


async def test_a_broker_that_does_not_answer_is_no_reason_to_restart(
    kafka: LocalKafka, kafka_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ASK_SECONDS", 1.0)
    monkeypatch.setattr(watch, "ASK_TIMEOUT_SECONDS", 0.5)
    async with idle_joiner(kafka_settings, tmp_path) as health:
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            await stays_live(health, 1.5 * STUCK_SECONDS)
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
