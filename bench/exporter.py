"""What a scrape of the exporter costs: 10,000 label sets of all kinds, each in 24 partitions.

python bench/exporter.py

In processor time, so that a busy machine matters less.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

import msgspec

from schemas import metrics
from schemas.metrics import LATENCIES, Metric, withdrawn
from schemas.totals import Histogram, LabelSet, TotalsRecord, totals_key
from sinks.exporter import TotalsPage
from sinks.families import Progress
from sinks.sums import Sums

PARTITIONS = 24
LABEL_SETS: tuple[tuple[Metric, int], ...] = (
    (metrics.MESSAGES, 2_500),
    (metrics.NETWORK_MESSAGES, 2_000),
    (metrics.SENDER_MESSAGES, 2_000),
    (metrics.COST, 1_500),
    (metrics.CODES, 1_000),
    (metrics.SENDS, 500),
    (metrics.FLAGGED, 300),
    (metrics.SEGMENTS, 100),
    (metrics.CARRIER_LATENCY, 100),
)


def records() -> Iterator[tuple[LabelSet, bytes]]:
    """As a joiner writes them: all latencies of a label set stand in one record."""
    for metric, number in LABEL_SETS:
        if metric.kind == "counter":
            value = TotalsRecord(counters={metric.name: 123_456, withdrawn(metric.name): 789})
        else:
            value = TotalsRecord(
                histograms={m.name: Histogram([1] * (len(m.buckets_ms) + 1), 5) for m in LATENCIES}
            )
        encoded = msgspec.json.encode(value)
        for index in range(number):
            yield tuple((label, f"{label}-{index}") for label in metric.labels), encoded


def main() -> None:
    sums = Sums()
    began = time.process_time()
    for partition in range(PARTITIONS):
        for labels, value in records():
            sums.apply(totals_key("join", partition, labels), value)
    print(f"{sums.keys:,} keys read in {time.process_time() - began:.1f} s")
    for accept in ("text/plain", "application/openmetrics-text"):
        page = TotalsPage(sums, Progress())
        began = time.process_time()
        body, content_type = page(accept)
        took = time.process_time() - began
        lines = body.count(b"\n")
        print(f"{content_type}: {lines:,} lines, {len(body) / 1e6:.1f} MB in {took:.2f} s")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most")


if __name__ == "__main__":
    main()
