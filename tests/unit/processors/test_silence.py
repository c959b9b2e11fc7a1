"""Silence is an event: noticed on a silent stream, and not falsely after downtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.codec import TYPE_ERASE, TYPE_REVOKE, encode
from schemas.events import Erase, Revoke, Send
from schemas.lifecycle import Lifecycle
from schemas.metrics import MESSAGES
from schemas.pulses import Pulse
from sendtrace.runtime.settings import Settings

from engine import Output, output, running_joiner, status_body
from fakes.cluster import MemoryCluster

HOUR_MS = 3_600_000
START_MS = 1_790_000_000_000
ID = "id-000000"


class Day:
    """A joiner with one partition, and a clock that only the test moves."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster(
            Settings(topic_prefix="test.", partitions=1, transaction_interval_ms=1)
        )
        self.now_ms = START_MS
        self.cluster.log.now_ms = lambda: self.now_ms

    def put(self, topic: str, value: bytes, ce_type: str | None = None) -> None:
        headers = [("ce_type", ce_type.encode())] if ce_type else []
        self.cluster.log.put(f"test.{topic}", 0, ID.encode(), value, headers)

    def send(self) -> None:
        send = Send(
            message_id=ID, send_id="s", api="messages", channel="sms", account="acc",
            arrived_at_us=self.now_ms * 1000,
        )  # fmt: skip
        self.put("sends", encode(send))

    def status(self, status: str) -> None:
        self.put("statuses", status_body(ID, status))

    def pulse(self) -> None:
        self.put("pulses", encode(Pulse(edge="e", at_us=self.now_ms * 1000)))

    @asynccontextmanager
    async def joining(self) -> AsyncIterator[None]:
        cluster = self.cluster
        async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
            yield

    async def lifecycle(self, outcome: str, overdue: tuple[str, ...] = ()) -> Lifecycle:
        """Wait until it is so."""
        async with asyncio.timeout(4):
            while True:
                found = (await self.output()).lifecycles.get(ID)
                if found is not None and found.summary is not None:
                    kinds = tuple(entry.kind for entry in found.overdue)
                    if (found.summary.outcome, kinds) == (outcome, overdue):
                        return found
                await asyncio.sleep(0.02)

    async def output(self) -> Output:
        return await output(self.cluster.clients, self.cluster.settings)

    async def stays(self, outcome: str) -> None:
        """Give it time to be wrong."""
        await asyncio.sleep(1.2)
        assert (await self.lifecycle(outcome)).summary is not None


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
    day.put("pulses", b"{}")
    day.pulse()
    async with day.joining():
        async with asyncio.timeout(4):
            while (await day.output()).events("quarantined") != 1:
                await asyncio.sleep(0.02)
    records = day.cluster.log.records("test.totals")
    states = [entry.value for entry in records if b"@gaps" in (entry.key or b"")]
    assert all(b'"closed":[]' in (state or b"") for state in states)


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
        async with asyncio.timeout(4):
            while not (await day.output()).lifecycles[ID].erased:
                await asyncio.sleep(0.02)
    found = await day.output()
    assert found.values[ID] == encode(
        {"message_id": ID, "erased": True, "erased_at": day.now_ms * 1000}
    )
    assert found.truth(MESSAGES.name).total() == 0
