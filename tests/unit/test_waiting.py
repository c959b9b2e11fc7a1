"""Waits with a bound end at it, whatever the task does that is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from waiting import Stuck, end, within


async def deaf(cancellations: int) -> None:
    """Swallows so many cancellations."""
    for _ in range(cancellations):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


async def test_the_bound_holds_for_who_swallows_its_cancellation() -> None:
    task = asyncio.create_task(deaf(1))
    async with asyncio.timeout(5):
        with pytest.raises(Stuck, match=r"waited 0\.01 s for a deaf one"):
            await within(0.01, "a deaf one", task)
    await end(task, seconds=1)


async def test_what_is_there_in_time_is_answered() -> None:
    assert await within(1, "an answer", asyncio.sleep(0, "answer")) == "answer"
    with pytest.raises(ZeroDivisionError):
        await within(1, "an error", fail())


async def fail() -> None:
    raise ZeroDivisionError


@asynccontextmanager
async def entered() -> AsyncIterator[None]:
    await innermost()
    yield


async def innermost() -> None:
    await asyncio.sleep(10)


async def outermost() -> None:
    async with entered():
        pass


async def test_it_tells_where_every_task_waits() -> None:
    """Down to the innermost await, through context managers."""
    with pytest.raises(Stuck) as told:
        await within(0.01, "anything", outermost())
    text = str(told.value)
    places = [text.index(f" {name}\n") for name in ("outermost", "entered", "innermost")]
    assert places == sorted(places)


async def test_a_cancellation_that_got_lost_comes_again() -> None:
    """As aiokafka's: who awaits a task that it has cancelled passes its own cancellation on."""

    async def beat() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def rejoin() -> None:
        heartbeat.cancel()
        await heartbeat
        await asyncio.Event().wait()

    heartbeat = asyncio.create_task(beat())
    await asyncio.sleep(0)
    task = asyncio.create_task(rejoin())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(task, seconds=2)
    assert task.done()


async def test_who_cannot_be_ended_is_named() -> None:
    task = asyncio.create_task(deaf(3))
    await asyncio.sleep(0)
    with pytest.raises(Stuck, match=r"not ended by cancelling it for 0 s:(.|\n)*deaf"):
        await end(task, seconds=0)
    await end(task, seconds=2)
