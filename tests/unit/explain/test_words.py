"""What happened to a message, in words."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from msgspec.structs import replace

from processors.join import flags
from processors.join.derive import summarise
from processors.join.facts import empty, with_erase, with_fact, with_overdue, with_send
from processors.join.policy import Policy
from schemas.events import Fact, Send
from schemas.lifecycle import Lifecycle, Outcome, Overdue, OverdueKind
from schemas.numbers import parse_iso_us
from sendtrace.explain.found import Found, of_lifecycle
from sendtrace.explain.report import as_json, as_text
from sendtrace.explain.words import _DEADLINES, _WHY, FLAGS, HIDDEN, tell

T0 = parse_iso_us("2026-11-22T05:00:00Z")
SECOND = 1_000_000
FROM, TO = "447700900001", "447700900000"
SEND = Send(
    message_id="m1", send_id="s1", api="messages", arrived_at_us=T0, account="abcd1234",
    channel="sms", sender=FROM, recipient=TO, client_ref="order 7", answer="accepted",
    answer_status="202", http_status=202, requested_at_us=T0, answered_at_us=T0 + 250_000,
    clock="ours", price_units=4_000_000, currency="EUR",
)  # fmt: skip


def status(word: str, second: int, code: str = "", price: int | None = None, **more: str) -> Fact:
    return Fact(
        kind="status", status=word, code=code, account="abcd1234",
        arrived_at_us=T0 + second * SECOND + 300_000, provider_at_us=T0 + second * SECOND,
        provider_step_us=SECOND, channel="sms", recipient=TO, price_units=price,
        currency="EUR" if price is not None else None, version="v1", **more,
    )  # type: ignore[arg-type]  # fmt: skip


def found(*facts: Fact, send: Send | None = SEND, overdue: OverdueKind | None = None) -> Found:
    return of_lifecycle(lifecycle(*facts, send=send, overdue=overdue))


def lifecycle(
    *facts: Fact, send: Send | None = SEND, overdue: OverdueKind | None = None
) -> Lifecycle:
    made = empty("m1")
    if send is not None:
        made = with_send(made, send)
    for fact in facts:
        made = with_fact(made, fact)
    if overdue is not None:
        made = with_overdue(made, Overdue(kind=overdue, at_us=T0 + 73 * 3600 * SECOND))
    return replace(made, summary=summarise(made, Policy()))


def test_a_delivered_message_reads_like_this() -> None:
    told = tell(found(status("submitted", 1, price=3_330_000), status("delivered", 4)))
    assert as_text(told).splitlines() == [
        "m1: delivered (final) since 2026-11-22 05:00:04.000 UTC, Vonage's clock",
        "  A status says delivered. That counts above any failure.",
        "",
        "What happened (by arrival here, UTC)",
        "  2026-11-22 05:00:00.000  send, accepted (status 202), price by the answer 0.04",
        "  2026-11-22 05:00:01.300  status submitted, price 0.0333 EUR, verified for abcd1234",
        "                           by Vonage's clock 2026-11-22 05:00:01.000",
        "* 2026-11-22 05:00:04.300  status delivered, verified for abcd1234",
        "                           by Vonage's clock 2026-11-22 05:00:04.000",
        "  (* decided the outcome)",
        "",
        "Cost: 0.0333 EUR (told by an event)",
        "",
        "How long it took",
        "  handed over to delivered         3.000 s (both by Vonage's clock)",
        "  answer to delivered              4.000 s (our clock, then Vonage's)",
        "  request to answer                0.250 s (our clock)",
        "  first event to its arrival here  0.000 s (Vonage's clock, then ours)",
        "",
        "About it",
        "  send_id     s1",
        "  api         messages",
        "  channel     sms",
        "  account     abcd1234",
        "  traffic     live",
        "  client_ref  order 7",
        f"  sender      {HIDDEN}",
        f"  recipient   {HIDDEN}",
        "",
        "(from the topic)",
    ]


def test_numbers_are_shown_only_when_asked_for() -> None:
    known = found(status("failed", 3, "1240", error_title=f"Blocked for {TO}"),
                  send=replace(SEND, client_ref=f"+{TO}", answer_status=TO))  # fmt: skip
    for shown in (as_text(tell(known)), as_json(tell(known))):
        assert TO not in shown
        assert FROM not in shown
    assert f"recipient   {TO}" in as_text(tell(known, show_numbers=True))
    assert f"client_ref  +{TO}" in as_text(tell(known, show_numbers=True))


def test_what_is_no_number_stays() -> None:
    fact = status("delivered", 3, price=1, error_instance="12345678-1234-4123-8123-123456789012")
    text = as_text(tell(found(fact)))
    assert "0.00000001 EUR" in text
    assert "12345678-1234-4123-8123-123456789012" in text


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (found(status("failed", 3, "1240")), "A status says failed, code 1240. Only the status"),
        (found(), "Nothing final has come"),
        (found(overdue="final"), "no status or receipt had come: our webhook"),
        (found(status("submitted", 3), overdue="final"), "the carrier's silence"),
        (found(status("expired", 3)), "A status says expired. Its time ran out"),
        (
            found(send=replace(SEND, version="v0.1", ttl_ms=20_000), overdue="final"),
            "code 1360",
        ),
        (found(status("shipped", 3)), "A status says shipped. That status was never seen"),
        (
            found(send=replace(SEND, refused=True, answer="refused", answer_status="422")),
            "Vonage said no to the send (status 422).",
        ),
        (
            found(send=replace(SEND, refused=True, answer="throttled", answer_status="1")),
            "may be sent again",
        ),
        (
            found(send=replace(SEND, message_id="s1.1", answer="unanswered", answer_status=None)),
            "No usable answer came",
        ),
        (found(send=replace(SEND, receipt_expected=False)), "No receipt was asked for"),
    ],
)
def test_why(known: Found, why: str) -> None:
    assert why in tell(known).why


def test_the_code_is_explained_where_it_was_told() -> None:
    told = tell(found(status("failed", 3, "1240")))
    [line] = [line for line in told.timeline if line.decided]
    assert line.what.startswith("status failed, code 1240: ")


def test_of_two_deciding_facts_the_later_by_vonages_clock_is_marked() -> None:
    told = tell(found(status("rejected", 3, "7"), status("rejected", 2, "8")))
    assert [line.decided for line in told.timeline] == [False, False, True]


def test_the_next_deadline_is_told_while_it_is_open() -> None:
    made = replace(lifecycle(), due_at_us=T0 + 600 * SECOND)
    assert tell(of_lifecycle(made)).next == "the next deadline is 2026-11-22 05:10:00.000 UTC"


def test_a_candidate_is_marked_as_a_guess() -> None:
    known = found(send=replace(SEND, message_id="m1", answer="unanswered", answer_status=None))
    candidate = {"candidate_id": "c", "first_event_at": T0, "candidate_outcome": "delivered"}
    [told] = tell(Found(**{**as_fields(known), "candidates": [candidate]})).candidates
    assert told.startswith("A GUESS: it may be c, ")


def as_fields(known: Found) -> dict[str, object]:
    return {name: getattr(known, name) for name in known.__struct_fields__}


def test_the_erased_and_the_forgotten() -> None:
    erased = of_lifecycle(with_erase(lifecycle(), T0))
    assert tell(erased).headline.startswith("It was erased at 2026-11-22 05:00:00.000 UTC")
    gone = Found(message_id="m1", source="topic", is_forgotten=True)
    assert tell(gone).headline == "It was forgotten."


def test_every_outcome_flag_and_deadline_has_its_words() -> None:
    assert set(_WHY) == set(get_args(Outcome))
    assert set(_DEADLINES) == set(get_args(OverdueKind))
    rows = re.findall(r"^\| ([a-z_, ]+) \|", flags.__doc__ or "", re.MULTILINE)
    assert set(FLAGS) == {flag for row in rows for flag in row.split(", ")} - {"flag"}
