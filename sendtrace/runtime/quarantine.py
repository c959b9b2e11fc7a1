"""What every stage does with a record that it cannot use: keep it whole, say why, and not too many.

Of one that is too large to be written once more only its place is kept: there it stands.

A bad deploy understands nothing: it must stop, not drain a topic into quarantine.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.codec import TYPE_QUARANTINE, Headers, header
from schemas.topics import BY_NAME, QUARANTINE
from schemas.vonage.reasons import Reason
from sendtrace.runtime.kafka import Record

# Of what Kafka takes there, and in the inputs: less what a record itself costs and we add to it.
# Another producer may fill an input's limit, or get past it compressed. The edge takes 1 MiB.
KEPT_LIMIT_BYTES = int(BY_NAME[QUARANTINE].config["max.message.bytes"]) - 4_096
_HEADER_BYTES = 10  # what a header costs beside name and value

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


def is_too_large(record: Record) -> bool:
    """Whether Kafka would refuse it with headers of ours, again and again."""
    headers = sum([len(name) + len(value or b"") + _HEADER_BYTES for name, value in record.headers])
    size = len(record.key or b"") + len(record.value or b"") + headers
    return size > KEPT_LIMIT_BYTES


def kept(record: Record, origin: str, reason: str) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers under which a record is kept: its own, why, and where it stood."""
    if is_too_large(record):
        return None, None, quarantine_headers([], origin, Reason.TOO_LARGE)
    return record.key, record.value, quarantine_headers(record.headers, origin, reason)


def quarantine_headers(headers: Sequence[tuple[str, bytes]], origin: str, reason: str) -> Headers:
    added: Headers = [*headers, ("reason", reason.encode()), ("st_origin", origin.encode())]
    if header(headers, "ce_type") is None:
        added.append(("ce_type", TYPE_QUARANTINE.encode()))
    return added
