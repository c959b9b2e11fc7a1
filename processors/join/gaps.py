"""Gaps: the times in which no edge took webhooks. Pure.

1. Each edge pulses every 10 seconds. Where no pulse of any edge came for longer than the
   tolerance, nobody could have heard Vonage: that is a gap, and a deadline does not run in it.
2. Before the first pulse that was ever seen there is no gap: nobody knows.
3. Gaps are kept for as long as a deadline may lie open, and at most 1,000 of them: the oldest go.

Source: docs/architecture.md (Time).
"""

from __future__ import annotations

from msgspec import Struct

from schemas.formats import reader
from schemas.numbers import SECOND_US
from schemas.pulses import every_seconds

# Pulses missed in a row; one alone may be a slow broker.
TOLERATED_PULSES = 3
# The longest time for which a lifecycle waits (ttl of 72 h, an hour, and the grace) fits twice.
KEPT_SECONDS = 7 * 24 * 3600.0
MAX_GAPS = 1_000

FORMAT = 1

Gap = tuple[int, int]  # from, to, in microseconds since 1970


class Gaps(Struct, frozen=True):
    """What is known of pulses. ``with_pulse`` and ``until`` answer new values."""

    v: int = 1  # a record without it is of format 1: this default never changes
    last_us: int | None = None
    closed: tuple[Gap, ...] = ()

    def with_pulse(self, at_us: int, time_scale: float = 1.0) -> Gaps:
        """One more pulse. Pulses of several edges come in any order; late ones change nothing."""
        if self.last_us is None:
            return Gaps(last_us=at_us)
        if at_us <= self.last_us:
            return self
        closed = self.closed
        if at_us - self.last_us > _tolerance_us(time_scale):
            oldest_us = at_us - int(KEPT_SECONDS * SECOND_US / time_scale)
            kept = [gap for gap in closed if gap[1] > oldest_us]
            closed = (*kept[-MAX_GAPS + 1 :], (self.last_us, at_us))
        return Gaps(last_us=at_us, closed=closed)

    def until(self, now_us: int, time_scale: float = 1.0) -> tuple[Gap, ...]:
        """All gaps, with the one that is open now: its end is ``now_us``."""
        if self.last_us is None or now_us - self.last_us <= _tolerance_us(time_scale):
            return self.closed
        return (*self.closed, (self.last_us, now_us))


decode_gaps = reader(Gaps, FORMAT)


def _tolerance_us(time_scale: float) -> int:
    return int(TOLERATED_PULSES * every_seconds(time_scale) * SECOND_US)
