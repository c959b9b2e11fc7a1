"""What the exporter shows: the sums as Prometheus families, and how the exporter itself does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from schemas.metrics import Metric, withdrawn
from schemas.numbers import MONEY_UNITS
from sinks.sums import LabelValues, Sums

PREFIX = "sendtrace_"


class Progress:
    """How the reading goes: the exporter's figures about itself."""

    def __init__(self) -> None:
        self.records_read = 0
        self.lag_records = 0
        self.answered_at = self.polled_at = time.monotonic()
        self.newest_ms = 0  # append time of the newest record read; 0: none yet
        self.loop_lag_seconds = 0.0
        self.render_seconds = 0.0


class TotalsCollector(Collector):
    """The sums as Prometheus families: every metric of the catalogue, also while it is empty."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums

    def collect(self) -> Iterator[Family]:
        for metric in self._sums.catalogue:
            if metric.kind == "histogram":
                yield self._histogram(metric)
            else:
                yield from self._counters(metric)

    def _counters(self, metric: Metric) -> Iterator[Family]:
        entered = self._sums.counters[metric.name]
        if not metric.withdrawable:
            yield _counter(metric, metric.name, entered, sorted(entered))
            return
        # Both twins have every label set: to PromQL, `x - nothing` is nothing.
        left = self._sums.counters[withdrawn(metric.name)]
        values = sorted(entered.keys() | left.keys())
        yield _counter(metric, metric.name, entered, values)
        yield _counter(metric, withdrawn(metric.name), left, values)

    def _histogram(self, metric: Metric) -> Family:
        family = HistogramMetricFamily(
            f"{PREFIX}{metric.name}_seconds", metric.help, labels=metric.labels
        )
        # "1.0", "300.0": as prometheus-client itself writes them.
        limits = [*(str(limit_ms / 1000) for limit_ms in metric.buckets_ms), "+Inf"]
        for values, histogram in sorted(self._sums.histograms[metric.name].items()):
            family.add_metric(
                values,
                buckets=list(zip(limits, accumulate(histogram.buckets), strict=True)),
                sum_value=histogram.sum_ms / 1000,
            )
        return family


def _counter(
    metric: Metric, name: str, sums: Mapping[LabelValues, int], order: Sequence[LabelValues]
) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + name, metric.help, labels=metric.labels)
    for values in order:
        count = sums.get(values, 0)
        # int / int is correctly rounded, however large the sum is.
        family.add_metric(values, count / MONEY_UNITS if metric.unit == "money" else count)
    return family


class ProgressCollector(Collector):
    """The exporter about itself; to be alerted on, since the sums look healthy when they stop."""

    def __init__(self, progress: Progress, sums: Sums) -> None:
        self._progress = progress
        self._sums = sums

    def collect(self) -> Iterator[Family]:
        progress, sums, now = self._progress, self._sums, time.monotonic()
        yield _own_counter("records_read", "Records of totals read", progress.records_read)
        yield _own_counter(
            "regressions", "Counters that went back: a fault of the writer", sums.regressions
        )
        for name, words, value in (
            ("lag_records", "Offsets of totals not yet read", progress.lag_records),
            (
                "seconds_since_answer",
                "Time since Kafka last told where totals ends",
                now - progress.answered_at,
            ),
            ("seconds_since_poll", "Time since totals was last polled", now - progress.polled_at),
            (
                "last_record_timestamp_seconds",
                "When the newest record of totals was written, as Unix time; 0: none was read",
                progress.newest_ms / 1000,
            ),
            (
                "loop_lag_seconds",
                "How much later than asked for the event loop last woke the watch",
                progress.loop_lag_seconds,
            ),
            ("render_seconds", "Time the last rendering took", progress.render_seconds),
            ("keys", "Keys of totals held", sums.keys),
            (
                "unknown_names",
                "Names in totals that this version has no metric for",
                len(sums.unknown_names),
            ),
        ):
            yield GaugeMetricFamily(f"{PREFIX}exporter_{name}", words, value=value)


def _own_counter(name: str, words: str, value: int) -> Family:
    return CounterMetricFamily(f"{PREFIX}exporter_{name}", words, value=value)
