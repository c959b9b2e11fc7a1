"""The value of topic ``pulses``: an edge says that it takes webhooks, to every partition.

Edge and joiner must agree on how often that is, or a joiner sees gaps where there are none.
"""

from __future__ import annotations

from msgspec import Struct

from schemas.formats import reader

FORMAT = 1

_EVERY_SECONDS = 10.0
# A time scale divides the pause down to this and no further: a pulse through Kafka takes some
# milliseconds itself, and a partition's pulses wake its joiner.
_LEAST_SECONDS = 0.2


def every_seconds(time_scale: float) -> float:
    """The pause between two pulses of an edge."""
    return max(_EVERY_SECONDS / time_scale, _LEAST_SECONDS)


class Pulse(Struct, frozen=True, kw_only=True):
    """``at_us`` is the edge's clock, the one that stamps arrivals. ``edge`` names the process."""

    v: int = 1  # a record without it is of format 1: this default never changes
    edge: str
    at_us: int


decode_pulse = reader(Pulse, FORMAT)
