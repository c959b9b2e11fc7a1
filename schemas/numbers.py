"""Money and times as integers. Parsers answer None for what they cannot read; they never guess.

Money is an integer of 1e-8 units (the eight decimals that Vonage prints). Times are integers of
microseconds since 1970 UTC, with the step of the clock that told them beside them, because two
clocks may only be compared at the coarser step (docs/rules.md 4).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

MONEY_UNITS = 100_000_000
SECOND_US = 1_000_000
MILLISECOND_US = 1_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MONEY = re.compile(r"(-?)(\d{1,9})(?:[.,](\d{1,12}))?", re.ASCII)
# 2025-02-03T12:14:25Z, 2020-01-01 12:00:00, 2020-01-01 15:43:21 +0200, 2020-01-01 14:00:00 UTC
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?"
    r"\s?(Z|z|UTC|GMT|[+-]\d\d:?\d\d)?",
    re.ASCII,
)


def money(text: object) -> int | None:
    """``"0.03330000"`` to 3330000. A decimal comma is read as a point; floats go by their repr."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    match = _MONEY.fullmatch(str(text).strip())
    if match is None:
        return None
    sign, whole, fraction = match.groups()
    digits = (fraction or "")[:8].ljust(8, "0")
    units = int(whole) * MONEY_UNITS + int(digits)
    return -units if sign else units


def time_us(text: object) -> tuple[int, int] | None:
    """Microseconds since 1970 and the step of the clock that said so; None if it is no time.

    A time without a zone is UTC: every captured ``message-timestamp`` is (docs/vonage.md 2).
    """
    if not isinstance(text, str):
        return None
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    date, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}+00:00")
    except ValueError:
        return None
    at_us = (moment - _EPOCH) // _MICROSECOND
    step_us = SECOND_US
    if fraction:
        at_us += int(fraction[:6].ljust(6, "0"))
        step_us = MILLISECOND_US if len(fraction) <= 3 else 1
    if zone and zone[0] in "+-":
        minutes = int(zone[1:3]) * 60 + int(zone[-2:])
        at_us -= (minutes if zone[0] == "+" else -minutes) * 60 * SECOND_US
    return at_us, step_us


def iso_us(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds, as the header ``ce_time`` has it."""
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_iso_us(text: str) -> int:
    """The inverse of :func:`iso_us`. Raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return (moment - _EPOCH) // _MICROSECOND
