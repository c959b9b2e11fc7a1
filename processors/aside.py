"""What leaves a task sideways, in its transaction: records for quarantine, and misrouted ones."""

from __future__ import annotations

from processors.join.contribution import Totals
from schemas.codec import Headers
from schemas.topics import QUARANTINE
from schemas.vonage.reasons import Reason
from sendtrace.runtime.kafka import Record
from sendtrace.runtime.outgoing import Outgoing
from sendtrace.runtime.quarantine import Ratio, is_too_large, kept

REROUTED = "st_rerouted"


class Aside:
    """Collects what leaves sideways until the commit. Counts it in the totals."""

    def __init__(self, partition: int, totals: Totals, ratio_limit: float) -> None:
        self._partition = partition
        self._totals = totals
        self._ratio = Ratio(ratio_limit)
        self.records: list[Outgoing] = []

    def seen(self, number: int) -> None:
        """So many input records were looked at: what the ratio refers to."""
        self._ratio.seen(number)

    def quarantine(self, topic: str, record: Record, reason: str) -> None:
        """Keep the record, with the reason. Raises TooMuchQuarantine above the ratio."""
        self._ratio.unusable(1, reason)
        self._totals.count(topic, "quarantined")
        key, value, headers = kept(record, _origin(topic, record), reason)
        self.records.append(Outgoing(QUARANTINE, self._partition, key, value, headers))

    def reroute(self, topic: str, record: Record, key: str, home: int) -> None:
        """Another client's partitioner was at work: once more, unchanged, where it belongs."""
        if any(name == REROUTED for name, _ in record.headers):
            self.quarantine(topic, record, "rerouted twice")
            return
        if is_too_large(record):
            self.quarantine(topic, record, Reason.TOO_LARGE)
            return
        self._totals.count(topic, "rerouted")
        headers: Headers = [*record.headers, (REROUTED, _origin(topic, record).encode())]
        self.records.append(Outgoing(topic, home, key.encode(), record.value, headers))


def _origin(topic: str, record: Record) -> str:
    return f"{topic}-{record.partition}-{record.offset}"
