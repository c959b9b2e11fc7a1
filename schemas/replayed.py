"""What ``sendtrace replay`` leaves in topic ``quarantine``: which of its records were put through.

In the partition of those records, in the transaction that put them through: later than they, so
that retention takes it after them. While it is there, they are not put through a second time.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Replayed(Struct, frozen=True, kw_only=True):
    """``offsets`` are of the partition that the mark stands in."""

    v: int = 1  # a record without it is of format 1: this default never changes
    offsets: tuple[int, ...]


decode_replayed = msgspec.json.Decoder(Replayed).decode
