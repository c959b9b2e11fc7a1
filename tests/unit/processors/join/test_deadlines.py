"""Deadlines: silence becomes an event. docs/rules.md 3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.join.deadlines import Deadline, Gap, fire, moved, next_deadline
from processors.join.policy import Deadlines, Policy
from schemas.events import Erase, Revoke
from schemas.lifecycle import OverdueKind

from strategies import HOUR, S, T, Told, at, fold, receipt, send, status, summary

MINUTE = 60
FINAL_S = 73 * HOUR
UNANSWERED = send(message_id="s.1", answer="unanswered", answer_status=None)


def deadlines(*events: Told, policy: Policy | None = None) -> list[tuple[OverdueKind, float]]:
    """All that fire one after the other: kind, and seconds after T."""
    lifecycle, found = fold(list(events)), []
    while deadline := next_deadline(lifecycle, policy or Policy()):
        found.append((deadline.kind, (deadline.at_us - T) / S))
        lifecycle = fire(lifecycle, deadline)
    return found


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([send()], [("no_first_event", 10 * MINUTE), ("final", FINAL_S)]),
        ([send(), status("submitted", 1)], [("final", FINAL_S)]),
        ([send(), status("new-word", 1)], [("final", FINAL_S)]),
        # Without a send the first fact's arrival counts.
        (
            [status("submitted", 1, arrived_at_us=at(2)), status("buffered", arrived_at_us=at(9))],
            [("no_send", 2 + 5 * MINUTE), ("final", 2 + FINAL_S)],
        ),
        # A send that was told late starts when it came; no client's or Vonage's time counts.
        (
            [send(arrived_at_us=at(500), requested_at_us=at(0)), status("submitted", 1)],
            [("final", 500 + FINAL_S)],
        ),
        # min(ttl, 72 h) + 1 h.
        ([send(ttl_ms=60_000), status("submitted")], [("final", MINUTE + HOUR)]),
        ([send(ttl_ms=90 * HOUR * 1000), status("submitted")], [("final", FINAL_S)]),
        ([send(ttl_ms=0), status("submitted")], [("final", FINAL_S)]),
        # A failover item after the first has no send of its own.
        ([status("submitted", arrived_at_us=T, workflow_id="w", workflow_item=2)],
         [("final", FINAL_S)]),
        ([status("submitted", arrived_at_us=T, workflow_id="w", workflow_item=1)],
         [("no_send", 5 * MINUTE), ("final", FINAL_S)]),
        # Revocation is decided at the deadline.
        ([send(), Revoke(message_id="m", arrived_at_us=T), status("submitted")],
         [("final", FINAL_S)]),
        ([Revoke(message_id="m", arrived_at_us=T)], [("final", FINAL_S)]),
        # None: final, untracked, unanswered, erased, nothing known.
        ([send(), status("delivered")], []),
        ([receipt("expired")], []),
        ([send(refused=True)], []),
        ([send(receipt_expected=False)], []),
        ([send(receipt_expected=False), status("submitted")], [("final", FINAL_S)]),
        ([UNANSWERED], []),
        ([send(), Erase(message_id="m", arrived_at_us=T)], []),
        ([], []),
        # A foreign final status leaves no room for an overdue fact (facts.py, rule 4).
        ([send(account="a"), status("delivered", account="b")], []),
    ],
)  # fmt: skip
def test_deadlines(events: list[Told], expected: list[tuple[OverdueKind, float]]) -> None:
    assert deadlines(*events) == expected


def test_they_are_configurable_per_api_and_channel() -> None:
    policy = Policy(
        deadlines_of={
            (None, "whatsapp"): Deadlines(no_first_event_seconds=1),
            ("messages", None): Deadlines(no_first_event_seconds=2),
            ("messages", "rcs"): Deadlines(no_first_event_seconds=3, confirmation_seconds=None),
        }
    )
    assert deadlines(send(channel="whatsapp"), policy=policy)[0] == ("no_first_event", 1)
    assert deadlines(send(channel="sms"), policy=policy)[0] == ("no_first_event", 2)
    assert deadlines(send(channel="rcs"), policy=policy) == [("no_first_event", 3)]
    assert deadlines(send(api="sms"), policy=policy)[0] == ("no_first_event", 10 * MINUTE)


def test_time_scale_divides_every_duration() -> None:
    fast = Policy(time_scale=1000)
    assert deadlines(send(), policy=fast) == [("no_first_event", 0.6), ("final", 262.8)]
    assert deadlines(send(ttl_ms=3_600_000), policy=fast)[1] == ("final", 7.2)


STEP = 900


@pytest.mark.parametrize(
    ("gaps", "at_s"),
    [
        ([], 100),
        ([(10, 30)], 100 + 20 + STEP),  # its length and the longest step of a retry
        ([(-50, 30)], 100 + 30 + STEP),  # only from the start on
        ([(-50, -10)], 100),  # over before
        ([(100, 200)], 100),  # later
        ([(99, 500)], 100 + 401 + STEP),
        ([(10, 30), (900, 950)], 100 + 20 + STEP + 50 + STEP),  # moved into the next one
        ([(10, 30), (20, 40)], 100 + 30 + 2 * STEP),  # no second counts twice
        ([(900, 950), (10, 30)], 100 + 20 + STEP + 50 + STEP),  # in any order
    ],
)
def test_gaps_move_a_deadline(gaps: list[Gap], at_s: int) -> None:
    assert moved(0, 100, gaps, STEP) == at_s


def test_a_gap_moves_the_deadline_of_a_message() -> None:
    gaps = [(at(60), at(120))]
    deadline = next_deadline(fold([send()]), Policy(), gaps)
    assert deadline == Deadline(at(10 * MINUTE + 60 + 900), "no_first_event")


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=5))
def test_no_gap_ever_makes_a_deadline_earlier(gaps: list[Gap]) -> None:
    assert moved(0, 100, gaps, 7) >= 100


def test_missing_then_late() -> None:
    """A message of which nothing is heard, and the receipt that comes all the same."""
    lifecycle = fold([send()])
    outcomes = []
    while deadline := next_deadline(lifecycle, Policy()):
        lifecycle = fire(lifecycle, deadline)
        outcomes.append(summary(send(), *lifecycle.overdue).outcome)
    assert outcomes == ["pending", "missing"]
    after = summary(send(), *lifecycle.overdue, status("delivered", arrived_at_us=at(FINAL_S + 9)))
    assert (after.outcome, after.flags) == ("delivered", ("late",))
