"""The union of facts, rule by rule. That order leaves no trace is in test_properties.py."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from processors.join.derive import summarise
from processors.join.facts import MAX_FACTS, union, with_fact, with_overdue, with_send
from processors.join.policy import Policy
from schemas.codec import encode
from schemas.events import Arrival, Erase, Fact, Revoke, Segment, Send
from schemas.lifecycle import Overdue, OverdueKind
from schemas.vonage.messages import decode_status

from strategies import add, fold


def fact(status: str = "delivered", **more: object) -> Fact:
    fields = {"kind": "status", "arrived_at_us": 5, **more}
    return Fact(status=status, **fields)  # type: ignore[arg-type]


def send(**more: object) -> Send:
    fields = {"message_id": "m", "send_id": "s", "api": "sms", "arrived_at_us": 1, **more}
    return Send(**fields)  # type: ignore[arg-type]


# -- identity ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [{"code": "7"}, {"segment": "2"}, {"account": "a"}, {"kind": "receipt"}]
)
def test_what_tells_two_facts_apart(other: dict[str, str]) -> None:
    assert len(fold([fact(), fact(**other)]).facts) == 2


@pytest.mark.parametrize(
    "other", [{"arrived_at_us": 9}, {"provider_at_us": 3}, {"version": "v0.1"}, {"api": "messages"}]
)
def test_what_does_not(other: dict[str, object]) -> None:
    assert len(fold([fact(), fact(**other)]).facts) == 1


def test_a_repeat_that_says_nothing_new_is_told_by_identity() -> None:
    lifecycle = fold([fact(client_ref="a")])
    assert with_fact(lifecycle, fact(arrived_at_us=9)) is lifecycle
    sent = fold([send(client_ref="a")])
    assert with_send(sent, send(arrived_at_us=9)) is sent


# -- merge -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        ({"client_ref": None}, {"client_ref": "b"}, {"client_ref": "b"}),  # known beats unknown
        ({"client_ref": "a"}, {"client_ref": "b"}, {"client_ref": "a"}),  # by bytes
        ({"arrived_at_us": 5}, {"arrived_at_us": 4}, {"arrived_at_us": 4}),  # the first arrival
        ({"after_refusal": False}, {"after_refusal": True}, {"after_refusal": True}),  # a marker
        ({"price_units": 4}, {"price_units": 3}, {"price_units": 3}),
        (  # a time keeps the step of the clock that told it
            {"provider_at_us": 9, "provider_step_us": 1_000},
            {"provider_at_us": 8, "provider_step_us": 1_000_000},
            {"provider_at_us": 8, "provider_step_us": 1_000_000},
        ),
        (
            {"provider_at_us": None, "provider_step_us": 1_000},
            {"provider_at_us": 8, "provider_step_us": 1_000_000},
            {"provider_at_us": 8, "provider_step_us": 1_000_000},
        ),
        (  # segments, entry by entry
            {"segments_detail": (Segment("delivered", 5, 1), Segment())},
            {"segments_detail": (Segment("delivered", 4, 1), Segment("rejected"), Segment("x"))},
            {
                "segments_detail": (
                    Segment("delivered", 4, 1), Segment("rejected"), Segment("x"),
                )
            },
        ),
    ],
)  # fmt: skip
def test_fields_of_one_fact_merge_one_by_one(
    one: dict[str, object], other: dict[str, object], merged: dict[str, object]
) -> None:
    for history in ([fact(**one), fact(**other)], [fact(**other), fact(**one)]):
        [found] = fold(history).facts
        assert found == replace(fact(), **merged)


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        ({"refused": True}, {"refused": False}, {"refused": True}),
        ({"receipt_expected": True}, {"receipt_expected": False}, {"receipt_expected": False}),
        (  # two clocks are never paired: ours counts
            {"clock": "client", "requested_at_us": 1, "answered_at_us": 2},
            {"clock": "ours", "requested_at_us": 3, "answered_at_us": 4},
            {"clock": "ours", "requested_at_us": 3, "answered_at_us": 4},
        ),
    ],
)
def test_fields_of_the_send(
    one: dict[str, object], other: dict[str, object], merged: dict[str, object]
) -> None:
    for history in ([send(**one), send(**other)], [send(**other), send(**one)]):
        assert fold(history).send == replace(send(), **merged)


# -- the bound ---------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False))
def test_the_bound_of_64_does_not_depend_on_order(rng: random.Random) -> None:
    many = [fact(f"s{n:03}", arrived_at_us=n) for n in range(MAX_FACTS + 20)] + [fact()]
    shuffled = list(many)
    rng.shuffle(shuffled)
    lifecycle = fold(list(shuffled))
    assert encode(lifecycle) == encode(fold(list(many)))
    assert len(lifecycle.facts) == MAX_FACTS
    assert lifecycle.truncated
    assert lifecycle.facts[0].status == "delivered"  # what decides is never cut


def test_exactly_64_facts_are_not_truncated() -> None:
    assert not fold([fact(f"{n}") for n in range(MAX_FACTS)]).truncated


def test_truncated_is_part_of_the_merge() -> None:
    many = fold([fact(f"s{n:03}") for n in range(MAX_FACTS + 1)])
    assert union(fold([fact("s000")]), many).truncated
    assert union(many, fold([fact("s000")])).truncated


def _largest(worst: str, number: int) -> Fact:
    """A status with every field at its bound, as the decoder cuts them."""
    segment = {"timestamp": "2025-02-03T12:14:25.000Z", "status": worst}
    words = dict.fromkeys(["type", "pricing_model", "category"], worst)
    body = {
        "message_uuid": "u", "status": worst, "to": worst, "from": worst, "client_ref": worst,
        "timestamp": "2025-02-03T12:14:25.000Z", "channel": worst,
        "error": {"code": 10**17 + number, "reason": worst, "instance": worst},
        "usage": {"currency": worst, "price": "999999999.99999999"},
        "destination": {"network_code": worst},
        "sms": {"count_total": 99_999, "segments": [segment] * 99},
        "workflow": {"workflow_id": worst, "items_number": 99_999, "items_total": 99_999},
        "whatsapp": {"pricing": words, "conversation": {"origin": {"type": worst}}},
    }  # fmt: skip
    return decode_status(json.dumps(body).encode(), Arrival(2**52, "a" * 64)).fact


@pytest.mark.parametrize("worst", ["\x01" * 500, "\U0001f600" * 500, '"' * 500, "x" * 500])
def test_64_facts_at_their_longest_fit_in_256_kib(worst: str) -> None:
    """The whole record, with its summary. A larger one is a bug, and crashes."""
    many = [replace(_largest(worst, n), mended=True, after_refusal=True) for n in range(70)]
    sent = send(
        message_id="m" * 256, send_id="s" * 128, error_text="x" * 256, client_ref="\x01" * 100,
        sender="x" * 128, recipient="x" * 128, ttl_ms=2**53, price_units=10**17,
    )  # fmt: skip
    lifecycle = fold([*many, sent, Overdue("final", 2**52)], "m" * 256)
    whole = replace(lifecycle, truncated=True, summary=summarise(lifecycle, Policy()))
    assert len(whole.facts) == MAX_FACTS
    assert len(encode(whole)) <= 256 * 1024


# -- overdue, revoke, erase --------------------------------------------------------------------

FINAL, NO_EVENT, NO_SEND = (
    Overdue("final", 90),
    Overdue("no_first_event", 20),
    Overdue("no_send", 10),
)


@pytest.mark.parametrize(
    ("events", "standing"),
    [
        ([NO_EVENT, FINAL], ["final", "no_first_event"]),
        ([NO_EVENT, FINAL, fact("submitted")], ["final"]),
        ([NO_EVENT, FINAL, fact("new-word")], ["final"]),
        ([NO_EVENT, FINAL, fact("delivered")], []),
        ([NO_SEND, FINAL, fact("submitted")], ["final", "no_send"]),
        ([NO_SEND, FINAL, fact("submitted"), send()], ["final"]),
        ([NO_SEND, fact("failed")], []),
        ([FINAL, fact("revoked")], ["final"]),  # that word is documented nowhere
    ],
)
def test_which_overdue_facts_stand(events: list[object], standing: list[OverdueKind]) -> None:
    for history in (events, events[::-1]):
        lifecycle = fold(history)  # type: ignore[arg-type]
        assert [overdue.kind for overdue in lifecycle.overdue] == standing


def test_of_one_kind_the_earlier_deadline_stays() -> None:
    lifecycle = fold([Overdue("final", 90), Overdue("final", 80), Overdue("final", 85)])
    assert lifecycle.overdue == (Overdue("final", 80),)
    assert with_overdue(lifecycle, Overdue("final", 99)) is lifecycle


def test_of_several_revocations_the_first_stays() -> None:
    lifecycle = fold([Revoke(message_id="m", arrived_at_us=n) for n in (9, 7, 8)])
    assert lifecycle.revoke_requested_at_us == 7


def test_an_erased_lifecycle_says_that_and_nothing_else() -> None:
    erased = fold([fact(), Erase(message_id="m", arrived_at_us=7), send(recipient="447400123456")])
    assert encode(erased) == b'{"message_id":"m","erased":true,"erased_at":7}'
    assert add(erased, fact("read")) is erased
    assert add(erased, Erase(message_id="m", arrived_at_us=6)).erased_at_us == 6
