"""Process `exporter`: topic ``totals`` to `/metrics`.

Must: sum everything that stood in the topic when it started before it shows anything (a partial
sum looks like a counter reset), and show the same figures as any other exporter. It has no state
and no group: it reads all partitions from the beginning each time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from aiohttp import web
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, generate_latest
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
from schemas.topics import TOTALS
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import (
    Clients,
    Consumer,
    KafkaClients,
    Partition,
    partitions_of,
    stop_quietly,
)
from sendtrace.runtime.service import Health, health_routes, http_server, stop_on_signals
from sendtrace.runtime.settings import Settings
from sinks.sums import LabelValues, Sums

PREFIX = "sendtrace_"
POLL_MS = 500
# Until the sums are whole: positions may also move over control records alone, without a record.
START_POLL_MS = 50
# Applying a record costs some 10 us: a poll of this size keeps `/metrics` answering in between.
POLL_LIMIT_RECORDS = 2_000
# How often Kafka is asked where the topic ends: lag, and the proof that it still answers.
WATCH_SECONDS = 2.0
# A consumer of aiokafka may hang after a broker restart without an exception (AIOKAFKA 14).
STUCK_SECONDS = 60.0


class Progress:
    """How the reading goes: the exporter's figures about itself."""

    def __init__(self) -> None:
        self.records_read = 0
        self.lag_records = 0
        self.answered_at = time.monotonic()


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
        name = f"{PREFIX}exporter_"
        yield CounterMetricFamily(
            f"{name}records_read", "Records of totals read", value=self._progress.records_read
        )
        yield GaugeMetricFamily(
            f"{name}lag_records", "Offsets of totals not yet read", value=self._progress.lag_records
        )
        yield GaugeMetricFamily(
            f"{name}seconds_since_answer",
            "Time since Kafka last told where totals ends",
            value=time.monotonic() - self._progress.answered_at,
        )
        yield GaugeMetricFamily(f"{name}keys", "Keys of totals held", value=self._sums.keys)
        yield CounterMetricFamily(
            f"{name}regressions",
            "Counters that went back: a fault of the writer",
            value=self._sums.regressions,
        )
        yield GaugeMetricFamily(
            f"{name}unknown_names",
            "Names in totals that this version has no metric for",
            value=len(self._sums.unknown_names),
        )


async def export(
    clients: Clients,
    settings: Settings,
    sums: Sums,
    health: Health,
    stopping: asyncio.Event,
    progress: Progress | None = None,
) -> None:
    """Keep the sums up to date until told to stop; ready once they are whole."""
    progress = progress or Progress()
    partitions = partitions_of(settings, TOTALS)
    reader = clients.reader()
    await reader.start()
    try:
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        for partition, offset in (await reader.beginning_offsets(partitions)).items():
            reader.seek(partition, offset)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_watch(reader, partitions, health, progress))
            await _read(reader, sums, health, stopping, progress, ends)
            watch.cancel()
    finally:
        await stop_quietly(reader)


async def _read(
    reader: Consumer,
    sums: Sums,
    health: Health,
    stopping: asyncio.Event,
    progress: Progress,
    ends: Mapping[Partition, int],
) -> None:
    missing = set(ends)
    while not stopping.is_set():
        # Before the poll, or an empty topic would be ready only after it.
        if missing and not await _unread(reader, missing, ends):
            health.set_ready()
        batches = await reader.getmany(
            timeout_ms=START_POLL_MS if missing else POLL_MS, max_records=POLL_LIMIT_RECORDS
        )
        for records in batches.values():
            for record in records:
                sums.apply(record.key, record.value)
            progress.records_read += len(records)
        await asyncio.sleep(0)  # getmany does not yield while it has records at hand


async def _unread(
    reader: Consumer, missing: set[Partition], ends: Mapping[Partition, int]
) -> set[Partition]:
    """Takes those out of ``missing`` that were read to the end; answers the rest.

    By position: the last offsets of a partition may be control records, which are never handed
    out, so that the last record's offset + 1 may never reach the end (AIOKAFKA 16).
    """
    for partition in list(missing):
        if await reader.position(partition) >= ends[partition]:
            missing.discard(partition)
    return missing


async def _watch(
    reader: Consumer, partitions: Sequence[Partition], health: Health, progress: Progress
) -> None:
    """Lag, and the watchdog: behind without moving, while Kafka answers, is beyond repair."""
    read_before = -1
    moved_at = time.monotonic()
    while True:
        try:
            ends = await reader.end_offsets(partitions)
        except KafkaError:
            # Kafka is away: what was summed stays right; seconds_since_answer tells of it.
            moved_at = time.monotonic()
        else:
            read = sum([await reader.position(partition) for partition in partitions])
            progress.lag_records = max(0, sum(ends.values()) - read)
            progress.answered_at = time.monotonic()
            if read != read_before or progress.lag_records == 0:
                read_before, moved_at = read, progress.answered_at
            elif progress.answered_at - moved_at > STUCK_SECONDS:
                health.live, health.reason = False, "the consumer of totals does not move"
        await asyncio.sleep(WATCH_SECONDS)


def routes(health: Health, registry: CollectorRegistry) -> list[web.RouteDef]:
    """``/livez``, ``/readyz``, ``/metrics``; the last answers 503 until the sums are whole."""

    def render() -> bytes:
        if not health.ready:
            raise web.HTTPServiceUnavailable(text=health.reason)
        return generate_latest(registry)

    return health_routes(health, render)


async def run(settings: Settings) -> None:
    """The process: until SIGTERM or SIGINT."""
    stopping = stop_on_signals()
    health, sums, progress = Health(), Sums(), Progress()
    registry = CollectorRegistry()
    registry.register(TotalsCollector(sums))
    registry.register(ProgressCollector(progress, sums))
    app = web.Application()
    app.add_routes(routes(health, registry))
    async with http_server(app, settings.bind_address, settings.port("exporter")):
        await topics.require(settings)
        await export(KafkaClients(settings), settings, sums, health, stopping, progress)
