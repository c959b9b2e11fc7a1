"""What makes a lifecycle: Hypothesis strategies, and short words for the tests of single rules.

The strategies have few values each, so that they collide often.
"""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st
from msgspec import Struct

from processors.join.derive import summarise
from processors.join.facts import (
    empty,
    with_erase,
    with_fact,
    with_overdue,
    with_revoke_requested,
    with_send,
)
from processors.join.policy import Policy
from schemas.events import Erase, Fact, Revoke, Segment, Send
from schemas.lifecycle import Lifecycle, Overdue, Summary

Told = Fact | Send | Overdue | Revoke | Erase

START_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
TIMES_US = st.integers(1, 40).map(lambda n: START_US + n * 500_000) | st.integers(70, 80).map(
    lambda n: START_US + n * HOUR_US
)
STATUSES = st.sampled_from(
    [
        "submitted", "delivered", "read", "rejected", "failed", "undeliverable", "expired",
        "accepted", "buffered", "revoked", "new-word",
    ]
)  # fmt: skip
SEGMENTS = st.lists(
    st.builds(
        Segment,
        status=st.sampled_from(["", "delivered", "rejected"]),
        at_us=st.sampled_from([0, START_US + 3_000_000, START_US + 9_000_000]),
        step_us=st.sampled_from([1_000, 1_000_000]),
    ),
    min_size=1,
    max_size=3,
).map(tuple)

_told_of_a_fact = partial(
    st.builds,
    Fact,
    arrived_at_us=TIMES_US,
    provider_at_us=st.none() | TIMES_US,
    provider_step_us=st.sampled_from([None, 1_000, 1_000_000]),
    api=st.sampled_from([None, "messages", "sms_or_alerts"]),
    channel=st.sampled_from([None, "sms", "whatsapp"]),
    price_units=st.sampled_from([None, 0, 3_330_000, 4_000_000]),
    currency=st.sampled_from([None, "EUR", "USD"]),
    client_ref=st.sampled_from([None, "a", "b"]),
    network=st.sampled_from([None, "23410", "US-FIXED"]),
    recipient=st.sampled_from([None, "447400123456"]),
    segments=st.sampled_from([None, 1, 2]),
    segments_detail=st.none() | SEGMENTS,
    workflow_id=st.sampled_from([None, None, "w"]),
    workflow_item=st.sampled_from([None, 1, 2]),
    version=st.sampled_from([None, "v0.1", "v1"]),
    mended=st.booleans(),
    after_refusal=st.booleans(),
)
# With so many identities two facts of one are rare, and their merge would hardly be tried.
twins = _told_of_a_fact(kind=st.just("status"), status=st.sampled_from(["submitted", "delivered"]))
facts = twins | _told_of_a_fact(
    kind=st.sampled_from(["status", "receipt"]),
    status=STATUSES,
    code=st.sampled_from(["", "7", "1300", "4711"]),
    segment=st.sampled_from(["", "1"]),
    account=st.sampled_from(["", "acc1", "acc2", "parent"]),
)
sends = st.builds(
    Send,
    message_id=st.just("m"),
    send_id=st.sampled_from(["s", "m"]),
    api=st.sampled_from(["messages", "sms"]),
    version=st.sampled_from([None, "v0.1", "v1"]),
    arrived_at_us=TIMES_US,
    account=st.sampled_from([None, "acc1"]),
    price_units=st.sampled_from([None, 3_000_000]),
    answer=st.sampled_from([None, "accepted", "refused", "unanswered"]),
    answer_status=st.sampled_from([None, "0", "202"]),
    requested_at_us=st.none() | TIMES_US,
    answered_at_us=st.none() | TIMES_US,
    clock=st.sampled_from([None, "ours", "client"]),
    refused=st.booleans(),
    receipt_expected=st.booleans(),
    callback_host=st.sampled_from([None, "ours.example", "theirs.example"]),
    ttl_ms=st.sampled_from([None, 0, 60_000]),
)
overdues = st.builds(
    Overdue, kind=st.sampled_from(["no_first_event", "no_send", "final"]), at_us=TIMES_US
)
revokes = st.builds(Revoke, message_id=st.just("m"), arrived_at_us=TIMES_US)
erases = st.builds(Erase, message_id=st.just("m"), arrived_at_us=TIMES_US)

told = facts | sends | overdues | revokes
histories = st.lists(told, max_size=12)
# Erased ones are a case of their own: one erase, and nothing else is left to look at.
histories_with_erase = st.lists(told | erases, max_size=12)

POLICIES = st.sampled_from(
    [
        Policy(),
        Policy(
            parents={"acc1": frozenset({"parent"})},
            callback_hosts=frozenset({"ours.example"}),
            test_client_ref_prefixes=("a",),
            time_scale=10,
        ),
    ]
)


def add(lifecycle: Lifecycle, event: Struct) -> Lifecycle:
    """The union with one event of any kind."""
    match event:
        case Fact():
            return with_fact(lifecycle, event)
        case Send():
            return with_send(lifecycle, event)
        case Overdue():
            return with_overdue(lifecycle, event)
        case Revoke():
            return with_revoke_requested(lifecycle, event.arrived_at_us)
        case Erase():
            return with_erase(lifecycle, event.arrived_at_us)
    raise AssertionError(event)


def fold(history: list[Told], message_id: str = "m") -> Lifecycle:
    lifecycle = empty(message_id)
    for event in history:
        lifecycle = add(lifecycle, event)
    return lifecycle


# -- short words -------------------------------------------------------------------------------

T = START_US
S = 1_000_000
HOUR = 3_600


def at(seconds: float) -> int:
    return T + int(seconds * S)


def status(word: str, at_s: float | None = 0, code: str = "", **more: object) -> Fact:
    """A status of an SMS, told by Vonage's clock at ``at_s`` and here a moment later."""
    fields = {
        "kind": "status",
        "channel": "sms",
        "provider_at_us": None if at_s is None else at(at_s),
        "provider_step_us": S,
        "arrived_at_us": at(at_s or 0) + 400_000,
        **more,
    }
    return Fact(status=word, code=code, **fields)  # type: ignore[arg-type]


def receipt(word: str, at_s: float | None = 0, code: str = "", **more: object) -> Fact:
    return status(word, at_s, code, **{"kind": "receipt", "api": "sms_or_alerts", **more})


def send(**more: object) -> Send:
    """A send of the Messages API that Vonage accepted."""
    fields = {
        "message_id": "m",
        "send_id": "s",
        "api": "messages",
        "answer": "accepted",
        "answer_status": "202",
        "arrived_at_us": T,
        **more,
    }
    return Send(**fields)  # type: ignore[arg-type]


def overdue(at_s: float = 73 * HOUR) -> Overdue:
    return Overdue("final", at(at_s))


def summary(*events: Told, policy: Policy | None = None) -> Summary:
    found = summarise(fold(list(events)), policy or Policy())
    assert found is not None
    return found
