"""What leaves a task sideways, in its transaction: records for quarantine, and misrouted ones."""

from __future__ import annotations

from msgspec import Struct

from processors.join.contribution import Totals
from schemas.codec import TYPE_QUARANTINE, Headers
from schemas.topics import QUARANTINE
from sendtrace.runtime.kafka import Record

REROUTED = "st_rerouted"
# How many records must have been seen before the quarantine ratio means anything.
QUARANTINE_SAMPLE = 1_000


class TooMuchQuarantine(Exception):
    """More records than the limit are unusable: a bad deploy must stop, not drain the topic."""


class Outgoing(Struct, frozen=True):
    """A record to be produced; ``topic`` without prefix."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Aside:
    """Collects what leaves sideways until the commit. Counts it in the totals."""

    def __init__(self, partition: int, totals: Totals, ratio_limit: float) -> None:
        self._partition = partition
        self._totals = totals
        self._ratio_limit = ratio_limit
        self._seen = 0
        self._quarantined = 0
        self.records: list[Outgoing] = []

    def seen(self, number: int) -> None:
        """So many input records were looked at: what the ratio refers to."""
        self._seen += number

    def quarantine(self, topic: str, record: Record, reason: str) -> None:
        """Keep the record whole, with the reason. Raises TooMuchQuarantine above the ratio."""
        self._quarantined += 1
        self._totals.count(topic, "quarantined")
        headers: Headers = [
            *record.headers,
            ("reason", reason.encode()),
            ("st_origin", _origin(topic, record)),
        ]
        if not any(name == "ce_type" for name, _ in headers):
            headers.append(("ce_type", TYPE_QUARANTINE.encode()))
        self.records.append(
            Outgoing(QUARANTINE, self._partition, record.key, record.value, headers)
        )
        if self._seen >= QUARANTINE_SAMPLE and self._quarantined > self._seen * self._ratio_limit:
            raise TooMuchQuarantine(
                f"{self._quarantined} of {self._seen} records of partition {self._partition} are "
                f"unusable (last: {reason}). Look into topic {QUARANTINE} before starting again"
            )

    def reroute(self, topic: str, record: Record, key: str, home: int) -> None:
        """Another client's partitioner was at work: once more, unchanged, where it belongs."""
        if any(name == REROUTED for name, _ in record.headers):
            self.quarantine(topic, record, "rerouted twice")
            return
        self._totals.count(topic, "rerouted")
        headers: Headers = [*record.headers, (REROUTED, _origin(topic, record))]
        self.records.append(Outgoing(topic, home, key.encode(), record.value, headers))


def _origin(topic: str, record: Record) -> bytes:
    return f"{topic}-{record.partition}-{record.offset}".encode()
