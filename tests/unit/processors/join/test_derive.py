"""What follows from a set of facts: one row per rule of RULES sections 3 to 5."""

from __future__ import annotations

import pytest

from processors.join.derive import summarise
from processors.join.facts import empty, with_fact, with_send
from schemas.events import Fact, Send
from schemas.lifecycle import Summary

T = 1_700_000_000_000_000
S = 1_000_000


def status(word: str, at_s: float | None = 0, code: str = "", **more: object) -> Fact:
    at_us = None if at_s is None else T + int(at_s * S)
    fields = {"kind": "status", "channel": "sms", "provider_step_us": S, **more}
    return Fact(status=word, code=code, arrived_at_us=T, provider_at_us=at_us, **fields)  # type: ignore[arg-type]


def send(**more: object) -> Send:
    fields = {"message_id": "m", "send_id": "s", "api": "messages", "arrived_at_us": T, **more}
    return Send(**fields)  # type: ignore[arg-type]


def summary(*events: Fact | Send) -> Summary:
    lifecycle = empty("m")
    for event in events:
        add = with_send if isinstance(event, Send) else with_fact
        lifecycle = add(lifecycle, event)  # type: ignore[operator]
    return summarise(lifecycle, "EUR")


@pytest.mark.parametrize(
    ("events", "outcome", "final"),
    [
        ([send()], "pending", False),
        ([send(refused=True, answer_status="2")], "refused", True),
        ([send(receipt_expected=False)], "untracked", False),
        ([send(receipt_expected=False), status("delivered")], "delivered", True),
        ([status("submitted")], "pending", False),
        ([status("accepted", code="7")], "pending", False),
        ([status("delivered", code="1300")], "delivered", True),  # only the status decides
        ([status("read")], "read", True),
        ([status("rejected"), status("delivered")], "delivered", True),
        ([status("delivered"), status("read")], "read", True),
        ([status("expired")], "expired", True),
        ([status("expired"), status("failed")], "failed", True),
        ([status("never-seen")], "unknown", False),
        ([status("never-seen"), status("submitted")], "unknown", False),
    ],
)
def test_outcome_by_precedence(events: list[Fact | Send], outcome: str, final: bool) -> None:
    found = summary(*events)
    assert (found.outcome, found.is_final) == (outcome, final)


def test_among_equals_known_time_wins_then_the_later_one() -> None:
    assert summary(status("failed", None), status("rejected", 1)).status_last == "rejected"
    assert summary(status("failed", 9), status("rejected", 1)).status_last == "failed"


def test_delivered_after_a_failure_is_a_contradiction() -> None:
    assert summary(status("rejected"), status("delivered")).flags == ("contradiction",)


def test_carrier_latency_is_between_vonages_own_times() -> None:
    found = summary(status("submitted", 1), status("delivered", 4))
    assert found.carrier_latency_ms == 3000


def test_clocks_are_compared_at_the_coarser_step() -> None:
    fine = status("submitted", 1.9, provider_step_us=1000)
    assert summary(fine, status("delivered", 2)).carrier_latency_ms == 1000


def test_a_negative_latency_is_clamped_and_flagged() -> None:
    found = summary(status("submitted", 5), status("delivered", 4))
    assert (found.carrier_latency_ms, found.flags) == (0, ("clock_skew",))


def test_read_without_delivered_has_no_delivery_latency() -> None:
    assert summary(status("submitted", 1), status("read", 4)).carrier_latency_ms is None


@pytest.mark.parametrize(
    ("events", "cost", "source"),
    [
        ([status("submitted", price_units=3)], 3, "event"),
        ([status("submitted", price_units=3), status("delivered", price_units=3)], 3, "event"),
        ([status("submitted", price_units=3), status("delivered", price_units=5)], 5, "event"),
        ([status("submitted", price_units=3, channel="whatsapp")], None, None),
        ([status("delivered", price_units=3, channel="whatsapp")], 3, "event"),
        ([send(price_units=7, channel="sms")], 7, "estimate"),
        ([send(price_units=7, channel="sms", refused=True)], 0, "event"),
        ([send(price_units=7, channel="sms"), status("failed", price_units=3)], 3, "event"),
    ],
)
def test_one_cost_per_message(
    events: list[Fact | Send], cost: int | None, source: str | None
) -> None:
    found = summary(*events)
    assert (found.cost_units, found.cost_source) == (cost, source)


def test_receipts_have_no_currency_of_their_own() -> None:
    own = summary(status("delivered", price_units=3, currency="USD"))
    assert (own.currency, own.currency_source) == ("USD", "field")
    default = summary(status("delivered", price_units=3))
    assert (default.currency, default.currency_source) == ("EUR", "default")


def test_a_foreign_account_stays_in_the_set_and_is_ignored() -> None:
    found = summary(send(account="acc1"), status("delivered", account="acc2"))
    assert (found.outcome, found.flags) == ("pending", ("foreign_account",))
    assert summary(status("delivered", account="acc2")).outcome == "delivered"
