"""Money and times: what is read, and what is not guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.numbers import MILLISECOND_US, SECOND_US, iso_us, money, parse_iso_us, time_us

NOON_2020_US = 1_577_880_000_000_000


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0.03330000", 3_330_000),
        ("0.0333", 3_330_000),
        ("0,04870000", 4_870_000),
        ("0", 0),
        ("12", 1_200_000_000),
        ("-1.5", -150_000_000),
        (0.0048, 480_000),
        (7, 700_000_000),
        ("0.123456789", 12_345_678),
        ("", None),
        ("null", None),
        ("1e5", None),
        ("1.2.3", None),
        (True, None),
        (None, None),
        ([], None),
        ("\u0661", None),
    ],
)
def test_money(text: object, units: int | None) -> None:
    assert money(text) == units


@pytest.mark.parametrize(
    ("text", "at_us", "step_us"),
    [
        ("2020-01-01 12:00:00", NOON_2020_US, SECOND_US),
        ("2020-01-01T12:00:00Z", NOON_2020_US, SECOND_US),
        ("2020-01-01T12:00:00.000Z", NOON_2020_US, MILLISECOND_US),
        ("2020-01-01T12:00:00.000+00:00", NOON_2020_US, MILLISECOND_US),
        ("2020-01-01T12:00:00.000001Z", NOON_2020_US + 1, 1),
        ("2020-01-01 14:00:00 +0200", NOON_2020_US, SECOND_US),
        ("2020-01-01 12:00:00 UTC", NOON_2020_US, SECOND_US),
        ("2020-01-01 06:30:00-05:30", NOON_2020_US, SECOND_US),
    ],
)
def test_times_of_every_shape_seen(text: str, at_us: int, step_us: int) -> None:
    assert time_us(text) == (at_us, step_us)


@pytest.mark.parametrize("text", ["", "null", "2020-13-01 12:00:00", "1578787200", 5, None, "x"])
def test_what_is_no_time_is_unknown(text: object) -> None:
    assert time_us(text) is None


@given(st.integers(0, 4_102_444_800_000_000))
def test_iso_us_and_its_inverse(at_us: int) -> None:
    assert parse_iso_us(iso_us(at_us)) == at_us
