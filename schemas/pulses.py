"""The value of topic ``pulses``: an edge says that it takes webhooks, to every partition."""

from __future__ import annotations

import msgspec
from msgspec import Struct

FORMAT = 1


class Pulse(Struct, frozen=True):
    """``at_us`` is the edge's clock, the one that stamps arrivals. Raises DecodeError if not so."""

    v: int = FORMAT
    edge: str = ""
    at_us: int = 0


encode_pulse = msgspec.json.Encoder().encode
decode_pulse = msgspec.json.Decoder(Pulse).decode
