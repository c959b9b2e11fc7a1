"""What a lifecycle adds to the totals, and what changes when the lifecycle does.

``contribution`` is a function of the summary alone, so the truth of a counter is the sum over all
lifecycles. On a change the positive differences are entered and the negative ones withdrawn: both
counters only grow, and entered minus withdrawn is the truth at any moment. A lifecycle that was
erased stands for nothing.

A latency is observed once per message and stage, when first known; a correction is counted, not
subtracted. An aggregated one is kept out.

Moves are only counted when they happen, by the pair of standings that they go from and to; they are
worked into the counters once, before they are written. Many messages make the same few moves.

Source: docs/architecture.md (Totals), docs/rules.md 4 and 5.
"""

from __future__ import annotations

from bisect import bisect_left

from msgspec import Struct

from processors.join.standing import (
    NOWHERE,
    Amounts,
    LatencyLabels,
    Standing,
    by_cost,
    by_network,
    by_outcome,
    by_send,
    by_sender,
    of_latency,
)
from schemas.lifecycle import Summary
from schemas.metrics import EVENTS, LATENCIES, LATENCY_CORRECTIONS, withdrawn
from schemas.totals import Histogram, LabelSet, TotalsRecord

OTHER = "other"  # where label sets beyond the bound are counted

Latencies = tuple[int | None, int | None, int | None, int | None, int | None, int | None]
_UNKNOWN: Latencies = (None, None, None, None, None, None)


class Contribution(Struct, frozen=True):
    """What one lifecycle stands for in the totals: always the same groups, in the same order."""

    standings: tuple[Standing, ...] = (NOWHERE,) * 5
    latencies_ms: Latencies = _UNKNOWN
    latency_labels: LatencyLabels | None = None

    @property
    def amounts(self) -> Amounts:
        """All of it, label set and metric to how much: for those who add it up themselves."""
        found: Amounts = {}
        for standing in self.standings:
            found |= standing.amounts
        return found


NOTHING = Contribution()


def contribution(summary: Summary | None) -> Contribution:
    if summary is None:
        return NOTHING
    s = summary
    account, api, channel, traffic, outcome = s.account, s.api, s.channel, s.traffic, s.outcome
    has_send = s.sent_at_us is not None
    carrier, deliver = s.carrier_latency_ms, s.deliver_latency_ms
    flags = s.flags
    if flags and "aggregated" in flags:
        carrier = deliver = None
    cost = NOWHERE
    if s.cost_units is not None:
        cost = by_cost(
            account, api, channel, s.country, traffic, s.cost_units, s.currency,
            s.cost_source, s.estimate_units,
        )  # fmt: skip
    return Contribution(
        (
            by_outcome(
                account, api, channel, s.country, traffic, outcome, s.code, s.category, flags,
                s.status_last if outcome == "unknown" else None,
            ),
            by_send(
                account, api, channel, traffic, s.answer, s.answer_status, has_send,
                s.part == 1, s.segments,
            ),
            cost,
            by_network(channel, s.network_final or s.network_estimated, outcome, traffic),
            by_sender(channel, outcome, s.sender, traffic),
        ),
        (
            carrier, deliver, s.accept_latency_ms, s.read_latency_ms, s.callback_latency_ms,
            s.ingest_lag_ms,
        ),
        of_latency(account, api, channel, traffic, s.send_clock == "client"),
    )  # fmt: skip


def events_label_set(topic: str, result: str) -> LabelSet:
    return ("input", topic), ("result", result)


class Totals:
    """At most ``limit`` label sets are admitted, first come; the rest counts as `other`, visibly.

    A label set is never evicted: its counters could not go on from where they were.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: dict[LabelSet, TotalsRecord] = {}
        self._changed: set[LabelSet] = set()
        self._moves: dict[tuple[Standing, Standing], int] = {}
        self._observed: dict[tuple[LatencyLabels, int, int], int] = {}

    def restore(self, labels: LabelSet, record: TotalsRecord) -> None:
        self._records[labels] = record

    def clear(self) -> None:
        self._records.clear()
        self._changed.clear()
        self._moves.clear()
        self._observed.clear()

    def changed(self) -> list[tuple[LabelSet, TotalsRecord]]:
        self._work_in()
        return [(labels, self._records[labels]) for labels in sorted(self._changed)]

    def settle(self) -> None:
        """What changed is committed."""
        self._changed.clear()

    def move(self, old: Contribution, new: Contribution) -> None:
        """A lifecycle stood for ``old`` and stands for ``new`` now."""
        moves = self._moves
        for pair in zip(old.standings, new.standings, strict=True):
            if pair[0] is not pair[1]:
                moves[pair] = moves.get(pair, 0) + 1
        if old.latencies_ms != new.latencies_ms:
            self._observe(old, new)

    def count(self, topic: str, result: str, number: int = 1) -> None:
        """Input records, by what they brought: new, repeat, quarantined or rerouted."""
        self.add(events_label_set(topic, result), EVENTS.name, number)

    def add(self, labels: LabelSet, name: str, amount: int) -> None:
        counters = self._record(labels).counters
        counters[name] = counters.get(name, 0) + amount

    def _observe(self, old: Contribution, new: Contribution) -> None:
        """Once per message and stage: when it is first known."""
        labels = new.latency_labels
        if labels is None:  # erased: what was observed stays observed
            return
        stage = 0
        for before, after in zip(old.latencies_ms, new.latencies_ms, strict=True):
            if before != after and after is not None:
                if before is None:
                    key = labels, stage, after
                    self._observed[key] = self._observed.get(key, 0) + 1
                else:
                    self.add(labels.corrected[stage], LATENCY_CORRECTIONS.name, 1)
            stage += 1  # noqa: SIM113 (enumerate costs more here)

    def _work_in(self) -> None:
        for (old, new), times in self._moves.items():
            for key, amount in old.amounts.items():
                self._differ(key, (new.amounts.get(key, 0) - amount) * times)
            for key, amount in new.amounts.items():
                if key not in old.amounts:
                    self._differ(key, amount * times)
        self._moves.clear()
        for (labels, stage, took_ms), times in self._observed.items():
            self._add_observation(labels.observed[stage], stage, took_ms, times)
        self._observed.clear()

    def _differ(self, key: tuple[LabelSet, str], difference: int) -> None:
        if difference > 0:
            self.add(key[0], key[1], difference)
        elif difference < 0:
            self.add(key[0], withdrawn(key[1]), -difference)

    def _add_observation(self, labels: LabelSet, stage: int, took_ms: int, times: int) -> None:
        metric = LATENCIES[stage]
        histograms = self._record(labels).histograms
        histogram = histograms.get(metric.name)
        if histogram is None:
            histogram = histograms[metric.name] = Histogram([0] * (len(metric.buckets_ms) + 1))
        histogram.buckets[bisect_left(metric.buckets_ms, took_ms)] += times
        histogram.sum_ms += took_ms * times

    def _record(self, labels: LabelSet) -> TotalsRecord:
        record = self._records.get(labels)
        if record is None:
            if len(self._records) >= self._limit:
                labels = tuple([(name, OTHER) for name, _ in labels])
                record = self._records.get(labels)
            if record is None:
                record = self._records[labels] = TotalsRecord()
        self._changed.add(labels)
        return record
