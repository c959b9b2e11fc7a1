"""The sums behind `/metrics`: the latest totals record of every key, added up per label set. Pure.

A record says how a task's counters stand, so a new record of a key replaces the old one: applying
the same records again, in the same order per key, gives the same sums. What is kept is the
difference old to new, so that a scrape adds nothing up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from schemas.codec import decode_totals
from schemas.metrics import CATALOGUE, Metric, withdrawn
from schemas.totals import Histogram, TotalsRecord, parse_key

LabelValues = tuple[str, ...]  # in the order of the metric's labels


class TotalsError(Exception):
    """A record of ``totals`` that this version cannot use. Only sendtrace writes them: a crash."""


class _Entry:
    """One key: its labels, and its latest record."""

    __slots__ = ("labels", "record")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = labels
        self.record = TotalsRecord()


class Sums:
    """Sums over input partitions and stages.

    Labels that a metric does not have are summed over; a label that the record does not have is
    empty, which to Prometheus is the same as absent.
    """

    def __init__(self, catalogue: Iterable[Metric] = CATALOGUE) -> None:
        self.catalogue = tuple(catalogue)
        self.counters: dict[str, dict[LabelValues, int]] = {}
        self.histograms: dict[str, dict[LabelValues, Histogram]] = {}
        self.applied = 0  # records: while it stands still, so does everything else here
        # Counters only grow. One that went back is a fault of ours, and must be seen.
        self.regressions = 0
        # A newer joiner may write what this version does not know: left out, and told.
        self.unknown_names: set[str] = set()
        self._labels: dict[str, tuple[str, ...]] = {}
        self._buckets: dict[str, int] = {}  # how many a histogram has
        self._entries: dict[bytes, _Entry] = {}
        for metric in self.catalogue:
            self._labels[metric.name] = metric.labels
            if metric.kind == "histogram":
                self.histograms[metric.name] = {}
                self._buckets[metric.name] = len(metric.buckets_ms) + 1  # the last one is +Inf
                continue
            self.counters[metric.name] = {}
            if metric.withdrawable:
                self._labels[withdrawn(metric.name)] = metric.labels
                self.counters[withdrawn(metric.name)] = {}

    @property
    def keys(self) -> int:
        """How many keys are held: what memory depends on."""
        return len(self._entries)

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Replace what the key stood for. Raises TotalsError for a record of no use."""
        if key is None or value is None:
            raise TotalsError("a record of topic totals has no key or no value")
        self.applied += 1
        entry = self._entries.get(key)
        if entry is None:
            labels = _labels_of(key)
            if labels is None:
                return
            entry = self._entries[key] = _Entry(labels)
        record = _decoded(key, value)
        self._check_buckets(key, record)
        self._replace(entry, record)
        entry.record = record

    def _replace(self, entry: _Entry, new: TotalsRecord) -> None:
        old = entry.record
        for name in new.counters.keys() | old.counters.keys():
            sums = self.counters.get(name)
            if sums is None:
                self.unknown_names.add(name)
                continue
            step = new.counters.get(name, 0) - old.counters.get(name, 0)
            self._count(sums, self._values(name, entry.labels), step)
        for name in new.histograms.keys() | old.histograms.keys():
            if name not in self.histograms:
                self.unknown_names.add(name)
                continue
            nothing = Histogram([0] * self._buckets[name])
            self._observe(
                name,
                self._values(name, entry.labels),
                old.histograms.get(name, nothing),
                new.histograms.get(name, nothing),
            )

    def _check_buckets(self, key: bytes, record: TotalsRecord) -> None:
        for name, histogram in record.histograms.items():
            expected = self._buckets.get(name)
            if expected is not None and len(histogram.buckets) != expected:
                raise TotalsError(
                    f"{name} of {key!r} has {len(histogram.buckets)} buckets: {expected}"
                )

    def _count(self, sums: dict[LabelValues, int], values: LabelValues, step: int) -> None:
        self.regressions += step < 0
        sums[values] = sums.get(values, 0) + step

    def _observe(self, name: str, values: LabelValues, old: Histogram, new: Histogram) -> None:
        total = self.histograms[name].setdefault(values, Histogram([0] * self._buckets[name]))
        for index, (before, after) in enumerate(zip(old.buckets, new.buckets, strict=True)):
            self.regressions += after < before
            total.buckets[index] += after - before
        total.sum_ms += new.sum_ms - old.sum_ms

    def _values(self, name: str, labels: Mapping[str, str]) -> LabelValues:
        return tuple([labels.get(label, "") for label in self._labels[name]])


def _labels_of(key: bytes) -> Mapping[str, str] | None:
    """The labels of a key; None for a task's positions, or another state of its own."""
    try:
        labels = parse_key(key).labels
    except msgspec.DecodeError as error:
        raise TotalsError(f"key {key!r} of topic totals cannot be read: {error}") from error
    if not isinstance(labels, str):
        return labels
    if not labels.startswith("@"):
        raise TotalsError(f"key {key!r} of topic totals is of no known kind")
    return None


def _decoded(key: bytes, value: bytes) -> TotalsRecord:
    try:
        return decode_totals(value)
    except msgspec.DecodeError as error:
        raise TotalsError(f"totals of {key!r} cannot be read: {error}") from error
