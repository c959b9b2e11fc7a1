"""When no edge pulsed, nobody could have heard Vonage."""

from __future__ import annotations

from processors.join.gaps import MAX_GAPS, Gaps

S = 1_000_000


def pulsed(*seconds: float) -> Gaps:
    gaps = Gaps()
    for second in seconds:
        gaps = gaps.with_pulse(int(second * S))
    return gaps


def test_regular_pulses_leave_no_gap() -> None:
    assert pulsed(0, 10, 20, 30).until(35 * S) == ()


def test_nothing_is_known_before_the_first_pulse() -> None:
    assert Gaps().until(10**15) == ()


def test_a_longer_silence_is_a_gap_from_the_last_pulse_to_the_next() -> None:
    assert pulsed(0, 10, 100, 110).until(115 * S) == ((10 * S, 100 * S),)


def test_a_silence_that_still_lasts_is_a_gap_up_to_now() -> None:
    assert pulsed(0, 10).until(100 * S) == ((10 * S, 100 * S),)


def test_pulses_of_another_edge_close_the_silence_and_late_ones_change_nothing() -> None:
    assert pulsed(0, 25, 10, 50, 20).until(60 * S) == ()


def test_the_number_of_gaps_is_bounded() -> None:
    gaps = pulsed(*(n * 40 for n in range(MAX_GAPS + 50)))
    assert len(gaps.closed) == MAX_GAPS


def test_gaps_older_than_any_deadline_go() -> None:
    week = 7 * 24 * 3600
    assert pulsed(0, 100, week + 200, week + 300).closed[0][0] == 100 * S
    assert pulsed(0, 100, 110, 2 * week).closed == ((110 * S, 2 * week * S),)


def test_durations_are_divided_by_the_time_scale() -> None:
    gaps = Gaps().with_pulse(0, 1000).with_pulse(1 * S, 1000)
    assert gaps.closed == ((0, 1 * S),)
