"""What every stage does with a record that it cannot use: keep it whole, say why, and not too many.

A bad deploy understands nothing: it must stop, not drain a topic into quarantine.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.codec import TYPE_QUARANTINE, Headers, header
from schemas.topics import QUARANTINE

# How many records must have been seen before the ratio means anything.
SAMPLE = 1_000


class TooMuchQuarantine(Exception):
    """More records than the limit are unusable (exit code 5)."""


class Ratio:
    """Of the records seen, how many were unusable."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._seen = 0
        self._unusable = 0

    def seen(self, number: int) -> None:
        self._seen += number

    def unusable(self, number: int, last_reason: str) -> None:
        """Raises TooMuchQuarantine above the limit. Call it before anything is kept."""
        self._unusable += number
        if self._seen >= SAMPLE and self._unusable > self._seen * self._limit:
            raise TooMuchQuarantine(
                f"{self._unusable} of {self._seen} records are unusable (last: {last_reason}). "
                f"Look into topic {QUARANTINE} and at the records before starting again"
            )


def quarantine_headers(headers: Sequence[tuple[str, bytes]], origin: str, reason: str) -> Headers:
    """The headers under which a record is kept: its own, why, and where it stood."""
    added: Headers = [*headers, ("reason", reason.encode()), ("st_origin", origin.encode())]
    if header(headers, "ce_type") is None:
        added.append(("ce_type", TYPE_QUARANTINE.encode()))
    return added
