"""Traffic: seeded, plausible, and its own judge of how each message ends."""

import json
from collections import Counter
from random import Random
from urllib.parse import parse_qs

import pytest

from sendtrace.simulator.payloads import Webhook
from sendtrace.simulator.traffic import Plan, Profile, next_plan

AT_US = 1_795_000_000_000_000
FINAL_WEBHOOKS = {
    "delivered", "read", "rejected", "failed", "undeliverable", "expired", "unknown",
}  # fmt: skip


def plans(seed: int, count: int, profile: Profile | None = None) -> list[Plan]:
    random = Random(seed)
    return [next_plan(random, AT_US + i * 50_000, profile or Profile()) for i in range(count)]


def fields(webhook: Webhook) -> dict[str, object]:
    if webhook.method == "GET":
        return {name: values[0] for name, values in parse_qs(webhook.query).items()}
    if webhook.content_type and "form" in webhook.content_type:
        return {name: values[0] for name, values in parse_qs(webhook.body.decode()).items()}
    decoded = json.loads(webhook.body)
    assert isinstance(decoded, dict)
    return decoded


def test_the_same_seed_gives_the_same_traffic_and_another_seed_another() -> None:
    assert plans(7, 50) == plans(7, 50)
    assert plans(7, 50) != plans(8, 50)


def test_message_ids_never_repeat_within_a_run() -> None:
    ids = [one.message_id for plan in plans(1, 2000) for one in plan.expected]
    assert len(ids) == len(set(ids))


def test_all_shapes_and_apis_occur() -> None:
    webhooks = [webhook for plan in plans(1, 500) for webhook in plan.webhooks]
    kinds = Counter((w.path, w.method, (w.content_type or "").partition(";")[0]) for w in webhooks)
    assert set(kinds) == {
        ("/webhooks/status", "POST", "application/json"),
        ("/webhooks/delivery-receipt", "POST", "application/json"),
        ("/webhooks/delivery-receipt", "POST", "application/x-www-form-urlencoded"),
        ("/webhooks/delivery-receipt", "GET", ""),
    }


def test_every_outcome_occurs_and_most_messages_arrive() -> None:
    outcomes = Counter(one.outcome for plan in plans(1, 5000) for one in plan.expected)
    assert set(outcomes) == FINAL_WEBHOOKS | {"pending"}
    assert 0.7 < (outcomes["delivered"] + outcomes["read"]) / outcomes.total() < 0.95


def test_the_expected_outcome_is_what_the_webhooks_say() -> None:
    for plan in plans(3, 1000):
        for expected in plan.expected:
            said = {
                fields(w)["status"] for w in plan.webhooks if w.message_id == expected.message_id
            }
            if expected.outcome == "pending":
                assert said <= {"accepted", "buffered", "submitted"}
            else:
                assert expected.outcome in said
                assert said & FINAL_WEBHOOKS <= {expected.outcome, "delivered"}


def test_webhooks_come_in_order_of_time_and_repeats_are_the_same_bytes() -> None:
    repeats = 0
    for plan in plans(3, 1000):
        after = [webhook.after_seconds for webhook in plan.webhooks]
        assert after == sorted(after)
        originals = {(w.query, w.body) for w in plan.webhooks if not w.is_repeat}
        for webhook in plan.webhooks:
            repeats += webhook.is_repeat
            assert (webhook.query, webhook.body) in originals
    assert 20 < repeats < 150


@pytest.mark.parametrize(("compression", "low", "high"), [(1.0, 3.0, 12.0), (100.0, 0.03, 0.12)])
def test_compression_divides_latencies(compression: float, low: float, high: float) -> None:
    lasts = sorted(
        plan.webhooks[-1].after_seconds
        for plan in plans(3, 1000, Profile(compression=compression, repeat_share=0.0))
        if plan.webhooks
    )
    assert low < lasts[len(lasts) // 2] < high


def test_a_send_with_two_parts_has_two_ids_in_its_answer() -> None:
    for plan in plans(3, 500):
        answer = plan.send["answer"]
        assert isinstance(answer, dict)
        if plan.send["api"] == "sms":
            ids = [message["message-id"] for message in answer["body"]["messages"]]
            assert answer["body"]["message-count"] == str(len(ids))
        else:
            ids = [answer["body"]["message_uuid"]]
        assert ids == [one.message_id for one in plan.expected]
    assert any(len(plan.expected) == 2 for plan in plans(3, 500))


def test_numbers_are_from_ranges_kept_for_fiction() -> None:
    for plan in plans(3, 500):
        request = plan.send["request"]
        assert isinstance(request, dict)
        assert request["to"].startswith(("447700900", "1202555010"))
        assert len(request["to"]) in (11, 12)
