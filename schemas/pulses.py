"""The value of topic ``pulses``: an edge says that it takes webhooks, to every partition."""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Pulse(Struct, frozen=True, kw_only=True):
    """``at_us`` is the edge's clock, the one that stamps arrivals. ``edge`` names the process."""

    v: int = 1  # a record without it is of format 1: this default never changes
    edge: str
    at_us: int


decode_pulse = msgspec.json.Decoder(Pulse).decode
