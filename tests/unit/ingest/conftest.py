"""An edge on free ports over the in-memory log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sendtrace.runtime.settings import Settings

from fakes.edge import Edge, HeldLog, edge_over


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
def budget_seconds() -> float:
    """So long that a busy machine never uses it up: whoever waits for its end sets a short one."""
    return 30.0


@pytest.fixture
def settings(budget_seconds: float) -> Settings:
    return Settings(
        partitions=3,
        edge_port=0,
        edge_internal_port=0,
        edge_budget_seconds=budget_seconds,
        edge_drain_seconds=0.05,
        edge_body_limit_bytes=10_000,
        edge_in_flight_limit_bytes=50_000,
    )


@pytest.fixture
async def edge(settings: Settings) -> AsyncIterator[Edge]:
    async with edge_over(HeldLog(), settings) as running:
        yield running
