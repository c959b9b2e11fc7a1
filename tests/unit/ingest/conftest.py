"""An edge on free ports over the in-memory log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from ingest.app import dependencies, internal_server, public_server
from ingest.metrics import Metrics
from ingest.publish import Publisher
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings

from fakes.edge import Edge, HeldLog


@pytest.fixture(autouse=True)
async def nothing_swallowed() -> AsyncIterator[None]:
    """An error inside a callback is only logged by the loop; here it fails the test."""
    swallowed: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: swallowed.append(context))
    yield
    loop.set_exception_handler(None)
    assert not swallowed


@pytest.fixture
def settings() -> Settings:
    return Settings(
        partitions=3,
        edge_port=0,
        edge_internal_port=0,
        edge_budget_seconds=0.2,
        edge_drain_seconds=0.05,
        edge_body_limit_bytes=10_000,
        edge_in_flight_limit_bytes=50_000,
    )


@pytest.fixture
async def edge(settings: Settings) -> AsyncIterator[Edge]:
    log = HeldLog()
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    publisher = Publisher(log, settings, metrics)
    await publisher.start()
    given = dependencies(settings, publisher, metrics)
    async with (
        public_server(given, settings, 0) as public,
        internal_server(given, Health(), registry, settings, 0) as internal,
        ClientSession() as session,
    ):
        yield Edge(
            log,
            given,
            publisher,
            registry,
            session,
            f"http://127.0.0.1:{public}",
            f"http://127.0.0.1:{internal}",
            public,
        )
    log.acknowledging.set()
    await publisher.stop()
    assert publisher.in_flight.bytes == 0
    assert not publisher.broken.is_set()
