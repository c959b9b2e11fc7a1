"""Silence is an event: noticed on a silent stream, and not falsely after downtime."""

from __future__ import annotations

import asyncio

from schemas.codec import TYPE_ERASE, TYPE_REVOKE, encode
from schemas.events import Erase, Revoke
from schemas.metrics import MESSAGES
from schemas.pulses import Pulse

from day import HOUR_MS, ID, START_MS, Day
from engine import status_body


async def test_a_message_that_nobody_speaks_of_becomes_missing() -> None:
    """On a stream with no traffic at all, and its late status moves it on."""
    day = Day()
    day.send()
    async with day.joining():
        await day.lifecycle("pending")
        day.now_ms = START_MS + 11 * 60_000 + 1  # ten minutes, and the grace
        await day.lifecycle("pending", ("no_first_event",))
        day.now_ms = START_MS + 73 * HOUR_MS + 60_000
        await day.lifecycle("missing", ("final", "no_first_event"))
        day.status("delivered")
        late = await day.lifecycle("delivered")
        assert late.summary is not None
        assert "late" in late.summary.flags
    truth = (await day.output()).truth(MESSAGES.name)
    assert {dict(labels)["outcome"]: count for labels, count in truth.items()} == {"delivered": 1}


async def test_within_the_grace_nothing_is_overdue() -> None:
    day = Day()
    day.send()
    async with day.joining():
        await day.lifecycle("pending")
        day.now_ms = START_MS + 11 * 60_000 - 1_000
        await day.stays("pending")


async def test_a_receipt_in_the_backlog_is_not_silence() -> None:
    """The joiner was down for days: what came meanwhile is read before any deadline fires."""
    day = Day()
    day.send()
    async with day.joining():
        await day.lifecycle("pending")
    day.now_ms += HOUR_MS
    day.status("delivered")
    day.now_ms = START_MS + 200 * HOUR_MS
    async with day.joining():
        found = await day.lifecycle("delivered")
    assert found.overdue == ()
    assert found.summary is not None
    truth = (await day.output()).totals
    assert not any("missing" in dict(labels).values() for labels in truth)


async def test_deadlines_survive_a_restart_and_a_lost_state_directory() -> None:
    day = Day()
    day.send()
    async with day.joining():
        await day.lifecycle("pending")
    day.cluster.lose_stores()
    day.now_ms = START_MS + 74 * HOUR_MS
    async with day.joining():
        await day.lifecycle("missing", ("final", "no_first_event"))


async def test_while_no_edge_took_webhooks_silence_is_ours() -> None:
    day = Day()
    day.pulse()
    day.send()
    async with day.joining():
        await day.lifecycle("pending")
        day.now_ms = START_MS + 80 * HOUR_MS  # the edge is still down
        await day.stays("pending")
        day.pulse()  # and is back: 80 hours and Vonage's longest step are added
        await day.stays("pending")
        day.now_ms = START_MS + (80 + 73) * HOUR_MS + 17 * 60_000
        for _ in range(3):
            day.pulse()
        await day.stays("pending")  # it was silent since the pulse: a gap as well


async def test_gaps_survive_a_restart() -> None:
    day = Day()
    day.pulse()
    day.send()
    day.now_ms += HOUR_MS
    day.pulse()
    async with day.joining():
        await day.lifecycle("pending")
    records = day.cluster.log.records("test.totals")
    states = [entry.value for entry in records if b"@gaps" in (entry.key or b"")]
    assert states[-1] == encode(
        {"v": 1, "last_us": day.now_ms * 1000,
         "closed": [[START_MS * 1000, day.now_ms * 1000]]}
    )  # fmt: skip


async def test_what_is_no_pulse_says_nothing_of_time() -> None:
    """Without its time it would be one of 1970, and all since then a gap."""
    day = Day()
    useless = [b"{}", b'{"edge":"\xff","at_us":1}', b'{"x":' + b"[" * 10_000]
    for value in useless:
        day.put("pulses", value)
    day.pulse()
    async with day.joining():
        async with asyncio.timeout(60):
            while (await day.output()).events("quarantined") != len(useless):
                await asyncio.sleep(0.02)
    records = day.cluster.log.records("test.totals")
    states = [entry.value for entry in records if b"@gaps" in (entry.key or b"")]
    assert all(b'"closed":[]' in (state or b"") for state in states)


async def test_an_edge_whose_clock_runs_ahead_leaves_no_gap() -> None:
    """Kafka took the pulse earlier than it says: no deadline waits for a time that has not come."""
    day = Day()
    day.pulse()
    ahead_us = (day.now_ms + 1000 * HOUR_MS) * 1000
    day.put("pulses", encode(Pulse(edge="e", at_us=ahead_us)))
    day.send()
    async with day.joining():
        await day.lifecycle("pending")
        for _ in range(70):
            day.now_ms += 10_000
            day.pulse()
        await day.lifecycle("pending", ("no_first_event",))


async def test_pulses_alone_are_no_reason_to_commit() -> None:
    day = Day()
    async with day.joining():
        for _ in range(5):
            day.now_ms += 10_000
            day.pulse()
        await asyncio.sleep(0.3)
    assert day.cluster.log.records("test.totals") == []


async def test_a_revoked_message_and_an_erased_one() -> None:
    day = Day()
    day.send()
    day.put("sends", encode(Revoke(message_id=ID, arrived_at_us=day.now_ms * 1000)), TYPE_REVOKE)
    async with day.joining():
        await day.lifecycle("pending")
        day.now_ms = START_MS + 74 * HOUR_MS
        await day.lifecycle("revoked", ("final", "no_first_event"))
        erase = Erase(message_id=ID, arrived_at_us=day.now_ms * 1000)
        day.put("sends", encode(erase), TYPE_ERASE)
        day.put("statuses", status_body(ID, "delivered"), None)
        async with asyncio.timeout(60):
            while not (await day.output()).lifecycles[ID].erased:
                await asyncio.sleep(0.02)
    found = await day.output()
    erased_at_us = day.now_ms * 1000
    assert found.values[ID] == encode(
        {
            "message_id": ID,
            "erased": True,
            "erased_at": erased_at_us,
            "due_at_us": erased_at_us + 7 * 24 * HOUR_MS * 1000,
        }
    )
    assert found.truth(MESSAGES.name).total() == 0
