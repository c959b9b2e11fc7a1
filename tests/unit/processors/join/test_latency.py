"""Latencies and their clocks: docs/rules.md 4."""

from __future__ import annotations

import pytest

from schemas.events import Segment

from strategies import S, at, receipt, send, status, summary

ANSWERED = send(requested_at_us=at(0), answered_at_us=at(0.25), clock="ours")


def test_carrier_is_between_vonages_own_times_and_needs_no_send() -> None:
    found = summary(status("submitted", 1), status("delivered", 4))
    assert found.carrier_latency_ms == 3000
    assert (found.submitted_at_us, found.delivered_at_us) == (at(1), at(4))


def test_carrier_starts_at_the_earliest_of_accepted_buffered_and_submitted() -> None:
    found = summary(receipt("buffered", 5), receipt("accepted", 2), receipt("delivered", 9))
    assert found.carrier_latency_ms == 7000


def test_deliver_goes_from_the_answer_and_accept_from_the_request() -> None:
    found = summary(ANSWERED, status("delivered", 4))
    assert (found.accept_latency_ms, found.deliver_latency_ms) == (250, 4000)
    assert (found.send_clock, found.sent_at_us) == ("ours", at(0))
    client = summary(send(requested_at_us=at(0), answered_at_us=at(0.25)))
    assert (client.accept_latency_ms, client.send_clock) == (250, "client")


def test_read_goes_from_delivered_and_neither_stands_for_the_other() -> None:
    assert summary(status("delivered", 4), status("read", 9)).read_latency_ms == 5000
    alone = summary(ANSWERED, status("submitted", 1), status("read", 4))
    assert (alone.carrier_latency_ms, alone.deliver_latency_ms, alone.read_latency_ms) == (
        None,
    ) * 3
    assert (alone.delivered_at_us, alone.read_at_us) == (None, at(4))


def test_clocks_are_compared_at_the_coarser_step() -> None:
    fine = status("submitted", 1.9, provider_step_us=1000)
    assert summary(fine, status("delivered", 2)).carrier_latency_ms == 1000
    both = status("delivered", 2.1, provider_step_us=1000)
    assert summary(fine, both).carrier_latency_ms == 200


def test_a_negative_latency_is_clamped_and_flagged() -> None:
    found = summary(status("submitted", 5), status("delivered", 4))
    assert (found.carrier_latency_ms, found.flags) == (0, ("clock_skew",))
    # The same second by a coarse clock is no disagreement.
    same = summary(send(answered_at_us=at(4.9)), status("delivered", 4))
    assert (same.deliver_latency_ms, same.flags) == (0, ())


def test_callback_leaves_out_what_came_after_a_refusal_of_ours() -> None:
    first = status("submitted", 1, arrived_at_us=at(601), after_refusal=True)
    second = status("delivered", 4, arrived_at_us=at(6))
    found = summary(first, second)
    assert (found.callback_latency_ms, found.ingest_lag_ms) == (2000, 600_000)
    assert summary(first).callback_latency_ms is None


def test_callback_is_of_the_first_status_so_that_later_ones_change_nothing() -> None:
    first = status("submitted", 1, arrived_at_us=at(2))
    assert summary(first).callback_latency_ms == 1000
    late = status("delivered", 4, arrived_at_us=at(99))
    assert summary(first, late).callback_latency_ms == 1000


@pytest.mark.parametrize(
    ("detail", "carrier", "flags"),
    [
        # Vonage holds a long SMS back for up to 5 minutes: its last segment's time counts.
        ((Segment("delivered", at(3), S), Segment("delivered", at(5), S)), 4000, ()),
        (None, 299_000, ("aggregated",)),
        ((Segment("delivered", at(3), S), Segment("delivered")), 299_000, ("aggregated",)),
        ((Segment("delivered", at(3), S),), 299_000, ("aggregated",)),
    ],
)
def test_segments_tell_when_a_long_sms_was_there(
    detail: tuple[Segment, ...] | None, carrier: int, flags: tuple[str, ...]
) -> None:
    held = status("delivered", 300, segments=2, segments_detail=detail)
    found = summary(status("submitted", 1), held)
    assert (found.carrier_latency_ms, found.flags) == (carrier, flags)


def test_a_receipt_is_of_one_part_and_never_held_back() -> None:
    found = summary(receipt("accepted", 1), receipt("delivered", 4, segments=2))
    assert (found.carrier_latency_ms, found.flags) == (3000, ())


def test_a_generated_expired_has_no_latency() -> None:
    found = summary(status("submitted", 1), status("expired", 72 * 3600))
    assert found.carrier_latency_ms is None
