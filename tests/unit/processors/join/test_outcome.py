"""The outcome: one row per rule of docs/rules.md 3."""

from __future__ import annotations

import pytest

from processors.join.policy import Policy
from processors.join.statuses import FINAL, PRECEDENCE
from schemas.events import Revoke
from schemas.lifecycle import Clock

from strategies import T, Told, at, overdue, receipt, send, status, summary

REVOKE = Revoke(message_id="m", arrived_at_us=T)
UNANSWERED = send(message_id="s.1", answer="unanswered", answer_status=None)
REFUSED = send(refused=True, answer="refused", answer_status="422")
UNTRACKED = send(receipt_expected=False)
V01_TTL = send(version="v0.1", ttl_ms=60_000)


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        # Only the status decides, never the code.
        ([status("delivered", code="1300")], "delivered"),
        ([receipt("accepted", code="7")], "pending"),
        ([status("submitted", code="1220")], "pending"),
        # Precedence among statuses.
        ([status("delivered"), status("read")], "read"),
        ([status("rejected"), status("delivered")], "delivered"),
        ([status("expired"), status("failed")], "failed"),
        ([status("expired"), status("submitted")], "expired"),
        ([status("undeliverable")], "undeliverable"),
        ([status("new-word"), status("submitted")], "unknown"),
        ([receipt("buffered")], "pending"),
        # The send alone.
        ([], "pending"),
        ([send()], "pending"),
        ([REFUSED], "refused"),
        ([send(refused=True, answer="throttled", answer_status="1")], "refused"),
        ([UNANSWERED], "unanswered"),
        ([UNTRACKED], "untracked"),
        ([send(callback_host="theirs.example")], "untracked"),
        # What holds only while no status or receipt is there gives way.
        ([REFUSED, status("submitted")], "refused"),
        ([REFUSED, status("delivered")], "delivered"),
        ([UNANSWERED, status("submitted")], "pending"),
        ([UNTRACKED, status("submitted")], "pending"),
        ([UNTRACKED, status("delivered")], "delivered"),
        # Silence.
        ([send(), overdue()], "missing"),
        ([send(), status("submitted"), overdue()], "unconfirmed"),
        ([status("submitted"), overdue()], "unconfirmed"),
        ([status("new-word"), overdue()], "unknown"),
        ([send(), overdue(), status("delivered")], "delivered"),
        # Code 1360: v0.1 sends no callbacks about a ttl that ran out.
        ([V01_TTL], "pending"),
        ([V01_TTL, overdue()], "expired"),
        ([V01_TTL, overdue(), status("submitted")], "unconfirmed"),
        ([send(version="v1", ttl_ms=60_000), overdue()], "missing"),
        # Revocation, at the deadline or by a word that is documented nowhere.
        ([send(), REVOKE], "pending"),
        ([send(), REVOKE, status("submitted"), overdue()], "revoked"),
        ([send(), REVOKE, overdue()], "revoked"),
        ([send(), REVOKE, status("delivered"), overdue()], "delivered"),
        ([status("revoked")], "unknown"),
        ([status("revoked"), REVOKE], "revoked"),
        ([send(account="acc"), REVOKE, status("revoked", account="foreign")], "pending"),
    ],
)
def test_outcome_by_precedence(events: list[Told], outcome: str) -> None:
    found = summary(*events)
    assert (found.outcome, found.is_final) == (outcome, outcome in FINAL)
    assert summary(*events[::-1]).outcome == outcome


@pytest.mark.parametrize("channel", ["whatsapp", "viber_service", "messenger"])
def test_chat_apps_end_unconfirmed_and_not_missing_once_submitted(channel: str) -> None:
    assert summary(send(channel=channel), status("submitted"), overdue()).outcome == "unconfirmed"


def test_the_precedence_of_the_rules() -> None:
    order = (
        "read delivered rejected=failed=undeliverable expired revoked refused unanswered unknown"
        " unconfirmed missing pending untracked"
    )
    groups = [group.split("=") for group in order.split()]
    assert [
        sorted(o for o in PRECEDENCE if PRECEDENCE[o] == rank) for rank in range(len(groups))
    ] == [sorted(group) for group in groups]


def test_among_equals_known_time_wins_then_the_later_one() -> None:
    assert summary(status("failed", None), status("rejected", 1)).status_last == "rejected"
    assert summary(status("failed", 9), status("rejected", 1)).status_last == "failed"
    assert summary(status("failed", 9), status("rejected", 9)).status_last == "failed"  # by bytes


def test_a_callback_to_a_host_of_ours_is_tracked() -> None:
    ours = Policy(callback_hosts=frozenset({"ours.example"}))
    found = summary(send(callback_host="ours.example"), policy=ours)
    assert (found.outcome, found.receipt_expected) == ("pending", True)
    assert summary(send(callback_host="theirs.example"), policy=ours).receipt_expected is False
    assert summary(status("submitted")).receipt_expected is None


@pytest.mark.parametrize(
    ("events", "at_s", "clock"),
    [
        ([status("delivered", 4)], 4, "vonage"),
        ([status("delivered", None)], 0.4, "ours"),
        ([send(), status("submitted", 1), overdue(9)], 9, "ours"),
        ([send(), overdue(9)], 9, "ours"),
        ([send(refused=True)], 0, "ours"),
        ([send(refused=True, answered_at_us=at(2), clock="client")], 2, "client"),
        ([send()], None, None),
    ],
)
def test_when_the_outcome_came_and_by_whose_clock(
    events: list[Told], at_s: float | None, clock: Clock | None
) -> None:
    found = summary(*events)
    assert found.outcome_at_us == (None if at_s is None else at(at_s))
    assert found.outcome_clock == clock


@pytest.mark.parametrize(
    ("events", "is_open"),
    [
        ([send()], True),
        ([status("submitted")], True),
        ([status("new-word")], True),
        ([status("new-word"), overdue()], False),
        ([status("submitted"), overdue()], False),
        ([UNANSWERED], False),
        ([status("failed")], False),
    ],
)
def test_what_may_still_change_in_time(events: list[Told], is_open: bool) -> None:
    assert summary(*events).is_open is is_open
