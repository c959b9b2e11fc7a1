"""What a lifecycle adds to the totals, and what changes when the lifecycle does.

``contribution`` is a function of the summary alone, so the truth of a counter is the sum over all
lifecycles. On a change the positive differences are entered and the negative ones withdrawn: both
counters only grow, and entered minus withdrawn is the truth at any moment.

A latency is observed once per message, when first known; a correction is counted, not subtracted.

Source: DESIGN section 5 (Totals), RULES sections 4 and 5.
"""

from __future__ import annotations

from bisect import bisect_left

from msgspec import Struct

from schemas.lifecycle import Summary
from schemas.metrics import (
    CARRIER_LATENCY,
    COST,
    EVENTS,
    LATENCY_BUCKETS_MS,
    LATENCY_CORRECTIONS,
    MESSAGES,
    withdrawn,
)
from schemas.totals import Histogram, LabelSet, TotalsRecord

NONE = "none"  # the value of a label that is not known
OTHER = "other"  # where label sets beyond the bound are counted

Amounts = dict[tuple[LabelSet, str], int]  # (label set, metric) to how much


class Contribution(Struct, frozen=True):
    """What one lifecycle stands for in the totals."""

    amounts: Amounts
    latency_labels: LabelSet = ()
    latency_ms: int | None = None


NOTHING = Contribution({})


def contribution(summary: Summary | None) -> Contribution:
    if summary is None:
        return NOTHING
    account = summary.account or NONE
    api = summary.api or NONE
    channel = summary.channel or NONE
    amounts: Amounts = {}
    outcome = ("account", account), ("api", api), ("channel", channel), ("outcome", summary.outcome)
    amounts[outcome, MESSAGES.name] = 1
    if summary.cost_units is not None:
        cost = (
            ("account", account),
            ("api", api),
            ("channel", channel),
            ("cost_source", summary.cost_source or NONE),
            ("currency", summary.currency or NONE),
        )
        amounts[cost, COST.name] = summary.cost_units
    labels = ("account", account), ("api", api), ("channel", channel)
    return Contribution(amounts, labels, summary.carrier_latency_ms)


def events_label_set(topic: str, result: str) -> LabelSet:
    return ("input", topic), ("result", result)


class Totals:
    """The totals of one task: what stands, what changed since the last commit.

    At most ``limit`` label sets are admitted, first come; the rest counts under `other`, visibly.
    A label set is never evicted: its counters could not go on from where they were.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: dict[LabelSet, TotalsRecord] = {}
        self._changed: set[LabelSet] = set()

    def restore(self, labels: LabelSet, record: TotalsRecord) -> None:
        self._records[labels] = record

    def clear(self) -> None:
        self._records.clear()
        self._changed.clear()

    def changed(self) -> list[tuple[LabelSet, TotalsRecord]]:
        return [(labels, self._records[labels]) for labels in sorted(self._changed)]

    def settle(self) -> None:
        """What changed is committed."""
        self._changed.clear()

    def move(self, old: Contribution, new: Contribution) -> None:
        """A lifecycle stood for ``old`` and stands for ``new`` now."""
        for key in old.amounts.keys() | new.amounts.keys():
            difference = new.amounts.get(key, 0) - old.amounts.get(key, 0)
            if difference > 0:
                self.add(key[0], key[1], difference)
            elif difference < 0:
                self.add(key[0], withdrawn(key[1]), -difference)
        if new.latency_ms is None:
            return
        if old.latency_ms is None:
            self._observe(new.latency_labels, new.latency_ms)
        elif old.latency_ms != new.latency_ms:
            self.add(new.latency_labels, LATENCY_CORRECTIONS.name, 1)

    def count(self, topic: str, result: str, number: int = 1) -> None:
        """Input records, by what they brought: new, repeat, quarantined or rerouted."""
        self.add(events_label_set(topic, result), EVENTS.name, number)

    def add(self, labels: LabelSet, name: str, amount: int) -> None:
        counters = self._record(labels).counters
        counters[name] = counters.get(name, 0) + amount

    def _observe(self, labels: LabelSet, latency_ms: int) -> None:
        histograms = self._record(labels).histograms
        histogram = histograms.get(CARRIER_LATENCY.name)
        if histogram is None:
            histogram = Histogram([0] * (len(LATENCY_BUCKETS_MS) + 1))
            histograms[CARRIER_LATENCY.name] = histogram
        histogram.buckets[bisect_left(LATENCY_BUCKETS_MS, latency_ms)] += 1
        histogram.sum_ms += latency_ms

    def _record(self, labels: LabelSet) -> TotalsRecord:
        record = self._records.get(labels)
        if record is None:
            if len(self._records) >= self._limit:
                labels = tuple((name, OTHER) for name, _ in labels)
                record = self._records.get(labels)
            if record is None:
                record = self._records[labels] = TotalsRecord()
        self._changed.add(labels)
        return record
