"""When a message is forgotten: docs/architecture.md (Forgetting)."""

from __future__ import annotations

from msgspec.structs import replace

from processors.join import facts
from processors.join.contribution import NOTHING
from processors.join.derive import summarise
from processors.join.forgetting import forget_at_us, is_remnant, remnant
from processors.join.policy import Policy
from processors.joining import _stands_for
from processors.rollup.parts import part_of
from schemas.events import Erase
from schemas.lifecycle import Lifecycle
from schemas.numbers import SECOND_US

from strategies import at, fold, overdue, send, status

POLICY = Policy()
HOUR_US = 3_600 * SECOND_US
WEEK_US = 7 * 24 * HOUR_US
HEARD_US = 400_000  # how much later than it happened a status arrives in these tests


def test_a_week_after_the_last_that_was_heard() -> None:
    lifecycle = fold([status("submitted", 10), status("delivered", 20)])
    assert forget_at_us(lifecycle, POLICY) == HEARD_US + at(20) + WEEK_US


def test_the_send_a_deadline_and_a_revocation_are_heard_too() -> None:
    assert forget_at_us(fold([send(arrived_at_us=at(30))]), POLICY) == at(30) + WEEK_US
    gone_by = fold([send(arrived_at_us=at(30)), overdue(90)])
    assert forget_at_us(gone_by, POLICY) == at(90) + WEEK_US
    revoked = facts.with_revoke_requested(fold([status("submitted", 10)]), at(50))
    assert forget_at_us(revoked, POLICY) == at(50) + WEEK_US


def test_never_before_96_hours_after_its_send() -> None:
    quick = Policy(forget_seconds=60)
    assert forget_at_us(fold([send()]), quick) == at(0) + 96 * HOUR_US
    assert forget_at_us(fold([status("submitted", 0)]), quick) == HEARD_US + at(0) + 60 * SECOND_US


def test_under_a_time_scale() -> None:
    scaled = Policy(time_scale=3600)
    assert (
        forget_at_us(fold([status("delivered", 0)]), scaled) == HEARD_US + at(0) + WEEK_US // 3600
    )


def test_of_nothing_there_is_nothing_to_forget() -> None:
    assert forget_at_us(facts.empty("m"), POLICY) is None


def test_a_remnant_is_kept_for_a_week() -> None:
    left = remnant("m", False, at(0), POLICY)
    assert is_remnant(left)
    assert left.due_at_us == at(0) + WEEK_US
    assert not is_remnant(facts.empty("m"))


def test_what_comes_after_it_is_a_fragment_in_no_counter_and_no_rollup() -> None:
    left = remnant("m", False, at(0), POLICY)
    fragment = facts.with_send(facts.with_fact(left, status("delivered", 9)), send(parts=2))
    fragment = replace(fragment, summary=summarise(fragment, POLICY))
    assert fragment.fragment
    assert not is_remnant(fragment)
    assert fragment.summary is not None
    assert fragment.summary.outcome == "delivered"
    assert "fragment" in fragment.summary.flags
    assert _stands_for(fragment) is NOTHING
    assert part_of(fragment) is None


def test_once_a_fragment_always_a_fragment() -> None:
    fragment = facts.with_fact(remnant("m", False, at(0), POLICY), status("delivered", 9))
    whole = fold([send()])
    assert facts.union(whole, fragment).fragment
    assert facts.union(fragment, whole).fragment


def test_the_remnant_of_an_erased_message_goes_on_stripping() -> None:
    left = remnant("m", True, at(0), POLICY)
    assert is_remnant(left)
    assert facts.with_fact(left, status("delivered", 9)) is left
    assert facts.with_send(left, send()) is left


def test_an_erased_message_is_forgotten_a_week_later() -> None:
    erased = fold([status("delivered", 5), Erase(message_id="m", arrived_at_us=at(100))])
    assert erased == Lifecycle(message_id="m", erased=True, erased_at_us=at(100))
    assert forget_at_us(erased, POLICY) == at(100) + WEEK_US
