"""Traffic: seeded, plausible, and its own judge of how each message ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from sendtrace.simulator.parties import ALERTS_ACCOUNT
from sendtrace.simulator.traffic import Plan, Profile

Plans = Callable[..., list[Plan]]
FINAL_WEBHOOKS = {
    "delivered", "read", "rejected", "failed", "undeliverable", "expired", "unknown",
}  # fmt: skip


def test_the_same_seed_gives_the_same_traffic_and_another_seed_another(plans: Plans) -> None:
    assert plans(7, 50) == plans(7, 50)
    assert plans(7, 50) != plans(8, 50)


def test_message_ids_never_repeat_within_a_run(plans: Plans) -> None:
    ids: list[str] = []
    for plan in plans(1, 3000):
        ids += [*(one.message_id for one in plan.expected), *plan.inbound]
    assert len(ids) == len(set(ids))


def test_every_kind_of_webhook_occurs(plans: Plans) -> None:
    kinds = {(w.api, w.kind, w.shape) for plan in plans(1, 2000) for w in plan.webhooks}
    assert kinds == {
        ("messages", "status", "json"),
        ("messages", "inbound", "json"),
        *(("sms", kind, shape) for kind in ("delivery-receipt", "inbound")
          for shape in ("json", "form", "get")),
        # Seed 3: "The Delivery Receipt is sent using a GET HTTP request".
        ("alerts", "delivery-receipt", "get"),
    }  # fmt: skip


def test_every_channel_occurs_in_the_versions_that_know_it(plans: Plans) -> None:
    new, old = set(), set()
    for plan in plans(1, 3000):
        for webhook in plan.webhooks:
            if webhook.api == "messages":
                to = webhook.fields["to"]
                if isinstance(to, dict):
                    old.add(to["type"])
                else:
                    new.add(webhook.fields["channel"])
    assert new == {"sms", "mms", "rcs", "whatsapp", "messenger", "viber_service"}
    assert old == {"sms", "mms", "whatsapp", "messenger", "viber_service_msg"}


def test_every_outcome_occurs_and_most_messages_arrive(plans: Plans) -> None:
    outcomes = Counter(one.outcome for plan in plans(1, 5000) for one in plan.expected)
    assert set(outcomes) == FINAL_WEBHOOKS | {"pending", "refused", "untracked"}
    assert 0.7 < (outcomes["delivered"] + outcomes["read"]) / outcomes.total() < 0.95


def test_the_expected_outcome_is_what_the_webhooks_say(plans: Plans) -> None:
    contradictions = 0
    for plan in plans(3, 4000):
        for expected in plan.expected:
            said = {
                w.fields["status"] for w in plan.webhooks if w.message_id == expected.message_id
            }
            if expected.outcome in ("refused", "untracked"):
                assert said == set()
            elif expected.outcome == "pending":
                assert said <= {"accepted", "buffered", "submitted"}
            elif expected.outcome == "delivered":
                # Delivered beats a failure that was told before (RULES section 3).
                contradictions += "rejected" in said
                assert said & FINAL_WEBHOOKS - {"rejected"} == {"delivered"}
            else:
                assert expected.outcome in said
                assert said & FINAL_WEBHOOKS <= {expected.outcome, "delivered"}
                assert "delivered" not in said or expected.outcome == "read"
    assert contradictions > 0


def test_webhooks_come_in_order_of_time_and_a_repeat_says_the_same(plans: Plans) -> None:
    repeats = 0
    for plan in plans(3, 2000):
        after = [webhook.after_seconds for webhook in plan.webhooks]
        assert after == sorted(after)
        originals = [webhook.fields for webhook in plan.webhooks if not webhook.is_repeat]
        for webhook in plan.webhooks:
            repeats += webhook.is_repeat
            assert webhook.fields in originals
    assert 40 < repeats < 250


@pytest.mark.parametrize(("compression", "low", "high"), [(1.0, 3.0, 12.0), (100.0, 0.03, 0.12)])
def test_compression_divides_latencies(
    plans: Plans, compression: float, low: float, high: float
) -> None:
    profile = Profile(compression=compression, repeat_share=0.0, inbound_share=0.0)
    lasts = sorted(
        plan.webhooks[-1].after_seconds for plan in plans(3, 1000, profile) if plan.webhooks
    )
    assert low < lasts[len(lasts) // 2] < high


def test_an_inbound_message_has_no_send_and_no_outcome(plans: Plans) -> None:
    incoming = plans(3, 200, Profile(inbound_share=1.0))
    for plan in incoming:
        assert plan.send is None
        assert plan.expected == ()
        assert {webhook.message_id for webhook in plan.webhooks} == set(plan.inbound)
    assert any(len(plan.inbound) > 1 for plan in incoming)


def test_shares_of_nothing_leave_nothing_of_a_kind(plans: Plans) -> None:
    profile = Profile(alerts_share=0.0, inbound_share=0.0, old_share=0.0, refused_share=0.0)
    for plan in plans(3, 1000, profile):
        assert plan.send is not None
        assert plan.send["api"] != "alerts"
        assert not any(isinstance(webhook.fields["to"], dict) for webhook in plan.webhooks)
        # Only parts after the first are refused then.
        assert plan.expected[0].outcome != "refused"


def test_parts_of_one_send_are_all_tracked_or_none_is(plans: Plans) -> None:
    untracked = 0
    for plan in plans(3, 6000, Profile(sms_share=1.0, inbound_share=0.0)):
        outcomes = [one.outcome for one in plan.expected if one.outcome != "refused"]
        untracked += len(outcomes) > 1 and "untracked" in outcomes
        assert "untracked" not in outcomes or set(outcomes) == {"untracked"}
    assert untracked > 0


def test_alerts_go_to_an_account_whose_receipts_are_not_signed(plans: Plans) -> None:
    found = [p for p in plans(3, 1000) if p.send is not None and p.send["api"] == "alerts"]
    assert found
    assert {plan.send["account"] for plan in found if plan.send} == {ALERTS_ACCOUNT}


def test_numbers_are_from_ranges_kept_for_fiction(plans: Plans) -> None:
    for plan in plans(3, 1000):
        for webhook in plan.webhooks:
            # Of who is written to; in an inbound message that is who writes.
            value = webhook.fields.get("msisdn")
            if value is None:
                value = webhook.fields["from" if webhook.kind == "inbound" else "to"]
            number = value.get("number") if isinstance(value, dict) else value
            if number is None or webhook.fields.get("channel") == "messenger":
                continue
            assert str(number).startswith(("447700900", "1202555010"))
            assert len(str(number)) in (11, 12)
