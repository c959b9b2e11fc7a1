"""What must follow from each ending: the ledger's own opinion, in numbers written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sendtrace.simulator import expect
from sendtrace.simulator.endings import VERDICTS, Ending
from sendtrace.simulator.expect import Send, Tale
from sendtrace.simulator.ledger import Message, RollupStanding, Standing
from sendtrace.simulator.parties import NETWORKS, Leg
from sendtrace.simulator.webhook import Told

S = 1_000_000
AT_US = 1_795_000_000 * S
LEG = Leg(
    "a1b2c3d4", "Sendtrace", "442079460001", "sms", NETWORKS["23410"], "0.03000000", "0.03330000",
    "ref", "Hello",
)  # fmt: skip
CHAT = replace(LEG, channel="whatsapp")
SEND = Send("send", AT_US - 120_345, AT_US)
ACCEPTED = Told("accepted", "0", AT_US + S // 2)
SUBMITTED = Told("submitted", "", AT_US + S // 2)
DELIVERED = Told("delivered", "0", AT_US + 4 * S + 999_999)
READ = Told("read", "", AT_US + 30 * S)


def sms(ending: Ending | str, *told: Told, **more: Any) -> Message:
    tale = Tale("id", "sms", LEG, ending, AT_US, 1.0, told, SEND, account="a1b2c3d4")  # type: ignore[arg-type]
    return expect.message(replace(tale, **more))


def chat(ending: Ending | str, *told: Told, **more: Any) -> Message:
    tale = Tale("id", "messages", CHAT, ending, AT_US, 1.0, told, SEND, "v1", "a1b2c3d4")  # type: ignore[arg-type]
    return expect.message(replace(tale, **more))


def test_a_delivered_sms() -> None:
    standing = Standing(
        outcome="delivered", is_final=True, cost_units=3_330_000, currency="EUR",
        cost_source="event",
    )  # fmt: skip
    assert sms("delivered", ACCEPTED, DELIVERED) == Message(
        message_id="id", api="sms", planned_at_us=AT_US, channel="sms", account="a1b2c3d4",
        country="GB", network="23410", send_id="send", told=standing, settled=standing,
        facts=(("accepted", ""), ("delivered", "")), carrier_latency_ms=4000,
        deliver_latency_ms=4000, accept_latency_ms=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "told", "settled", "flags", "cost", "source"),
    [
        (sms("silent"), "pending", "missing", ("no_first_event", "overdue"), 3_000_000, "estimate"),
        (sms("intermediate", ACCEPTED), "pending", "unconfirmed", ("overdue",), 3_330_000, "event"),
        (sms("untracked"), "untracked", "untracked", (), 3_000_000, "estimate"),
        (sms("refused", code="1"), "refused", "refused", (), 0, "event"),
        (sms("unanswered"), "unanswered", "unanswered", ("unanswered",), None, None),
        (sms("expired", ACCEPTED), "expired", "expired", (), 3_330_000, "event"),
        (chat("intermediate", SUBMITTED), "pending", "unconfirmed", ("overdue",), None, None),
        (chat("rejected", SUBMITTED), "rejected", "rejected", (), None, None),
        (chat("read", SUBMITTED, READ), "read", "read", (), 3_330_000, "event"),
        (chat("read", READ, leg=replace(CHAT, channel="rcs")), "read", "read", (), None, None),
        (chat("ttl_silent", version="v0.1", ttl_seconds=300), "pending", "expired",
         ("no_first_event", "overdue"), 0, "event"),
    ],
)  # fmt: skip
def test_before_and_after_its_deadlines(
    expected: Message, told: str, settled: str, flags: tuple[str, ...], cost: int | None,
    source: str | None,
) -> None:  # fmt: skip
    assert (expected.told.outcome, expected.settled.outcome) == (told, settled)
    after = expected.settled
    assert (after.flags, after.cost_units, after.cost_source) == (flags, cost, source)


@pytest.mark.parametrize(
    ("expected", "seconds"),
    [
        (sms("silent"), 73 * 3600),
        (sms("silent", ttl_seconds=300), 300 + 3600),
        (sms("silent", ttl_seconds=100 * 3600), 73 * 3600),
        (sms("silent", time_scale=10.0), 7.3 * 3600),
        (sms("delivered", DELIVERED), None),
        (sms("untracked"), None),
        (sms("unanswered"), None),
    ],
)
def test_deadlines_are_an_hour_after_the_ttl_or_72_hours(
    expected: Message, seconds: float | None
) -> None:
    due = None if seconds is None else AT_US + int(seconds * S)
    assert expected.settles_at_us == due


def test_without_a_send_only_the_webhooks_speak() -> None:
    stray = sms("intermediate", ACCEPTED, send=None, account=None)
    assert (stray.api, stray.account, stray.send_id) == ("sms_or_alerts", None, None)
    assert (stray.told.possible, stray.settled.flags) == (("no_send",), ("no_send", "overdue"))
    assert (stray.deliver_latency_ms, stray.accept_latency_ms) == (None, None)
    assert sms("delivered", DELIVERED, send=None).told.flags == ()
    # The second of a failover never has one.
    item = chat("intermediate", SUBMITTED, send=None, workflow_id="w")
    assert (item.told.possible, item.settled.flags) == ((), ("overdue",))


def test_latencies_are_in_whole_steps_of_vonages_clock() -> None:
    times = {"delivered": Told("delivered", "", AT_US + 4_567_890)}
    new = chat("read", SUBMITTED, times["delivered"], READ)
    assert (new.carrier_latency_ms, new.deliver_latency_ms, new.read_latency_ms) == (
        4000, 4000, 26_000,
    )  # fmt: skip
    old = chat("read", SUBMITTED, times["delivered"], READ, version="v0.1")
    assert (old.carrier_latency_ms, old.deliver_latency_ms, old.read_latency_ms) == (
        4067, 4567, 25_433,
    )  # fmt: skip
    # Without `delivered` nobody knows when it was.
    unseen = chat("read", SUBMITTED, READ)
    assert (unseen.carrier_latency_ms, unseen.deliver_latency_ms) == (None, None)


def test_a_clock_that_runs_backwards_counts_as_nothing() -> None:
    skewed = sms("skewed", ACCEPTED, Told("delivered", "0", AT_US - 3 * S))
    assert (skewed.carrier_latency_ms, skewed.deliver_latency_ms) == (0, 0)
    assert skewed.told.flags == ("clock_skew",)


def test_a_long_sms_is_delivered_with_its_last_segment() -> None:
    held_back = Told("delivered", "", AT_US + 200 * S)
    timed = replace(held_back, segments_at_us=(AT_US + 3 * S, AT_US + 7 * S))
    text = replace(LEG, text="x" * 200)
    known = chat("delivered", SUBMITTED, timed, leg=text)
    assert (known.carrier_latency_ms, known.told.flags) == (7000, ())
    unknown = chat("delivered", SUBMITTED, held_back, leg=text, is_aggregated=True)
    assert (unknown.carrier_latency_ms, unknown.told.flags) == (200_000, ("aggregated",))
    failed = chat("rejected", SUBMITTED, leg=text, is_aggregated=True)
    assert failed.told.flags == ()


def test_every_ending_has_both_verdicts() -> None:
    for ending, (told, settled) in VERDICTS.items():
        # What is final stays; what is open has nothing certain to say of silence yet.
        assert told == settled or not told.is_final, ending
        assert "overdue" not in told.flags, ending


DELIVERS = sms("delivered", DELIVERED)
FAILS = sms("failed", Told("failed", "1", AT_US + S))
REJECTED = sms("rejected", Told("rejected", "5", AT_US + S))
SILENT = sms("silent")
REFUSED = sms("refused", code="1")
STARTED = chat("intermediate", SUBMITTED)
READS = chat("read", READ)


@pytest.mark.parametrize(
    ("kind", "messages", "told", "settled"),
    [
        ("parts", [DELIVERS, DELIVERS], "delivered", "delivered"),
        ("parts", [DELIVERS, FAILS], "partial", "partial"),
        ("parts", [DELIVERS, SILENT], "pending", "partial"),
        ("parts", [DELIVERS, REFUSED], "partial", "partial"),
        ("parts", [FAILS, REFUSED], "failed", "failed"),
        ("parts", [SILENT, SILENT], "pending", "missing"),
        ("parts", [SILENT, REFUSED], "pending", "refused"),
        ("parts", [REFUSED, REFUSED], "refused", "refused"),
        ("failover", [FAILS, READS], "read", "read"),
        ("failover", [FAILS, STARTED], "pending", "unconfirmed"),
        ("failover", [FAILS, REJECTED], "rejected", "rejected"),
        ("failover", [READS], "read", "read"),
    ],
)
def test_rollups(kind: Any, messages: list[Message], told: str, settled: str) -> None:
    found = expect.rollup("key", kind, messages)
    assert (found.told.outcome, found.settled.outcome) == (told, settled)
    assert found.settled.delivered == sum(m in (DELIVERS, READS) for m in messages)


def test_a_rollup_adds_money_and_says_where_it_cannot_know() -> None:
    found = expect.rollup("key", "parts", [FAILS, REJECTED, SILENT])
    assert found.settled == RollupStanding(
        outcome="failed", also=("rejected",), costs=(("EUR", 2 * 3_330_000 + 3_000_000),)
    )
    assert found.settles_at_us == SILENT.settles_at_us
