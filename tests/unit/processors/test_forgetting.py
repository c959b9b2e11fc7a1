"""Messages leave the state in the end, and what comes later is known to be late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schemas.codec import TYPE_ERASE, encode
from schemas.events import Erase
from schemas.metrics import MESSAGES

from day import HOUR_MS, ID, START_MS, Day
from engine import Output

WEEK_MS = 7 * 24 * HOUR_MS
LATER_MS = START_MS + WEEK_MS + 74 * HOUR_MS
POLL_SECONDS = 0.02


async def until(day: Day, holds: Callable[[Output], bool]) -> Output:
    async with asyncio.timeout(60):
        while not holds(found := await day.output()):
            await asyncio.sleep(POLL_SECONDS)
    return found


def tombstones(day: Day) -> list[bytes]:
    return [
        dict(entry.headers)["reason"]
        for entry in day.cluster.log.records("test.lifecycles")
        if entry.value is None
    ]


async def delivered_and_forgotten(day: Day) -> None:
    day.send()
    day.status("delivered")
    async with day.joining():
        await day.lifecycle("delivered")
        day.now_ms = LATER_MS
        await until(day, lambda found: ID not in found.lifecycles)
        # The body's own time is at the edge of the test's clock: what is left is in the store.
        await asyncio.sleep(2 * POLL_SECONDS)


async def test_a_week_after_its_last_fact_a_message_is_forgotten() -> None:
    """Its counters stay as they were: it was delivered all the same."""
    day = Day()
    await delivered_and_forgotten(day)
    assert tombstones(day) == [b"expired"]
    truth = (await day.output()).truth(MESSAGES.name)
    assert {dict(labels)["outcome"]: count for labels, count in truth.items()} == {"delivered": 1}


async def test_what_comes_later_is_a_fragment_and_no_new_message() -> None:
    for loses_disk in (False, True):
        day = Day()
        await delivered_and_forgotten(day)
        if loses_disk:
            day.cluster.lose_stores()
        day.now_ms += HOUR_MS
        day.status("read")
        async with day.joining():
            found = await until(day, lambda found: ID in found.lifecycles)
        assert found.lifecycles[ID].fragment
        assert len(found.lifecycles[ID].facts) == 1
        assert found.events("after_forgetting") == 1
        assert found.events("new") == 2
        assert found.truth(MESSAGES.name).total() == 1


async def test_the_remnant_goes_too_in_the_end() -> None:
    """Or the state would grow for ever."""
    day = Day()
    await delivered_and_forgotten(day)
    store = day.cluster.open_store(0)
    assert store.value(ID.encode()) is not None
    async with day.joining():
        day.now_ms = LATER_MS + WEEK_MS + HOUR_MS
        async with asyncio.timeout(60):
            while store.value(ID.encode()) is not None:
                await asyncio.sleep(POLL_SECONDS)
    assert store.due(LATER_MS * 1_000_000, 10) == []


async def test_an_erased_message_is_forgotten_for_good() -> None:
    """What comes for it later stays stripped."""
    day = Day()
    day.send()
    async with day.joining():
        await day.lifecycle("pending")
        erase = Erase(message_id=ID, arrived_at_us=day.now_ms * 1000)
        day.put("sends", encode(erase), TYPE_ERASE)
        await until(day, lambda found: found.lifecycles[ID].erased)
        day.now_ms = LATER_MS
        await until(day, lambda found: ID not in found.lifecycles)
        assert tombstones(day) == [b"forgotten"]
        day.status("delivered")
        await until(day, lambda found: found.events("repeat") == 1)
    assert ID not in (await day.output()).lifecycles


async def test_a_message_that_is_still_open_is_not_forgotten() -> None:
    """Its deadline comes first, and is heard of itself."""
    day = Day()
    day.send()
    async with day.joining():
        await day.lifecycle("pending")
        day.now_ms = START_MS + WEEK_MS + 2 * HOUR_MS
        await day.lifecycle("missing", ("final", "no_first_event"))
        await asyncio.sleep(1.2)
        assert tombstones(day) == []
