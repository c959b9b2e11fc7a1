"""The exporter: silent until the sums are whole, then what Prometheus reads."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from schemas.metrics import (
    ACCEPT_LATENCY,
    CARRIER_LATENCY,
    CATALOGUE,
    EVENTS,
    LATENCIES,
    MESSAGES,
    Metric,
    withdrawn,
)
from schemas.numbers import MONEY_UNITS
from schemas.totals import Histogram, TotalsRecord, label_set, totals_key
from sendtrace.runtime import topic_watch
from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.service import Health, http_server
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.task import PositionLost
from sendtrace.runtime.topics import TopicChanged
from sinks.exporter import TotalsPage, export, routes
from sinks.families import Progress, ProgressCollector, TotalsCollector
from sinks.sums import Sums, TotalsError

from fakes.log import MemoryConsumer, MemoryLog

SETTINGS = Settings(partitions=3)
TOPIC = "sendtrace.totals"


def labels_of(metric: Metric) -> dict[str, str]:
    """A value of its own for each label that the catalogue gives the metric."""
    return {label: f"{label} of {metric.name}" for label in metric.labels}


LABELS = labels_of(MESSAGES)


def applied(metric: Metric, value: TotalsRecord) -> Sums:
    """Sums of one record, under the labels of a metric."""
    sums = Sums()
    sums.apply(totals_key("join", 0, label_set(labels_of(metric))), msgspec.json.encode(value))
    return sums


def observed(metric: Metric, sum_ms: int, *, first: int, second: int, last: int) -> TotalsRecord:
    buckets = [first, second, *[0] * (len(metric.buckets_ms) - 2), last]
    return TotalsRecord(histograms={metric.name: Histogram(buckets, sum_ms)})


def record(partition: int, **counters: int) -> tuple[str, int, bytes, bytes]:
    key = totals_key("join", partition, label_set(LABELS))
    return TOPIC, partition, key, msgspec.json.encode(TotalsRecord(counters=counters))


Sample = tuple[str, frozenset[tuple[str, str]]]


def sample(name: str, labels: Mapping[str, str], **more: str) -> Sample:
    return name, frozenset({**labels, **more}.items())


def samples(sums: Sums) -> dict[Sample, float]:
    registry = CollectorRegistry()
    registry.register(TotalsCollector(sums))
    text = generate_latest(registry).decode()
    return {
        sample(line.name, line.labels): line.value
        for family in text_string_to_metric_families(text)
        for line in family.samples
    }


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # the reader has no event to wait for
            await asyncio.sleep(0.001)


@asynccontextmanager
async def exporting(clients: MemoryLog) -> AsyncIterator[SimpleNamespace]:
    """An exporter that runs while the test does."""
    stopping, health, sums, progress = asyncio.Event(), Health(), Sums(), Progress()
    task = asyncio.create_task(export(clients, SETTINGS, sums, health, stopping, progress))
    try:
        yield SimpleNamespace(health=health, sums=sums, progress=progress)
    finally:
        stopping.set()
        await asyncio.wait_for(task, 60)


def test_counters_as_prometheus_reads_them() -> None:
    sums = Sums()
    sums.apply(*record(0, messages=3)[2:])
    found = samples(sums)
    assert found[sample("sendtrace_messages_total", LABELS)] == 3
    # The twin is there although nothing was ever withdrawn: `x - nothing` is nothing in PromQL.
    assert found[sample("sendtrace_messages_withdrawn_total", LABELS)] == 0


@pytest.mark.parametrize(
    "metric", [m for m in CATALOGUE if m.kind == "counter"], ids=lambda metric: metric.name
)
def test_every_counter_of_the_catalogue_and_its_twin(metric: Metric) -> None:
    names = [metric.name, withdrawn(metric.name)] if metric.withdrawable else [metric.name]
    unit = MONEY_UNITS if metric.unit == "money" else 1
    counters = {name: number * unit for number, name in enumerate(names, start=1)}
    found = samples(applied(metric, TotalsRecord(counters=counters)))
    assert {key: value for key, value in found.items() if value} == {
        sample(f"sendtrace_{name}_total", labels_of(metric)): number
        for number, name in enumerate(names, start=1)
    }


@pytest.mark.parametrize(
    "metric", [m for m in CATALOGUE if m.unit == "money"], ids=lambda m: m.name
)
def test_money_in_units_of_the_currency(metric: Metric) -> None:
    sums = applied(metric, TotalsRecord(counters={metric.name: 3_330_000}))
    assert samples(sums)[sample(f"sendtrace_{metric.name}_total", labels_of(metric))] == 0.0333


@pytest.mark.parametrize("metric", LATENCIES, ids=lambda metric: metric.name)
def test_latencies_are_cumulative_and_in_seconds(metric: Metric) -> None:
    found = samples(applied(metric, observed(metric, 12_500, first=2, second=1, last=4)))
    name, labels = f"sendtrace_{metric.name}_seconds", labels_of(metric)
    limits = [str(limit_ms / 1000) for limit_ms in metric.buckets_ms]
    cumulative = [2, *[3] * (len(limits) - 1), 7]
    expected = {
        sample(f"{name}_bucket", labels, le=limit): count
        for limit, count in zip((*limits, "+Inf"), cumulative, strict=True)
    }
    expected |= {sample(f"{name}_count", labels): 7, sample(f"{name}_sum", labels): 12.5}
    assert {key: value for key, value in found.items() if key[0].startswith(name)} == expected


@pytest.mark.parametrize(
    ("metric", "limits"),
    [(CARRIER_LATENCY, ("1.0", "2.0", "259200.0")), (ACCEPT_LATENCY, ("0.025", "0.05", "30.0"))],
)
def test_each_stage_has_the_buckets_of_its_clock(metric: Metric, limits: tuple[str, ...]) -> None:
    found = samples(applied(metric, observed(metric, 1, first=1, second=1, last=1)))
    name, labels = f"sendtrace_{metric.name}_seconds_bucket", labels_of(metric)
    assert [found[sample(name, labels, le=limit)] for limit in limits] == [1, 2, 2]


def test_the_page_has_every_metric_also_while_it_is_empty() -> None:
    registry = CollectorRegistry()
    registry.register(TotalsCollector(Sums()))
    families = {f.name for f in text_string_to_metric_families(generate_latest(registry).decode())}
    for metric in CATALOGUE:
        unit = "_seconds" if metric.kind == "histogram" else ""
        assert f"sendtrace_{metric.name}{unit}" in families
        assert (f"sendtrace_{withdrawn(metric.name)}" in families) == metric.withdrawable


def test_the_exporters_own_figures_can_be_scraped() -> None:
    registry = CollectorRegistry()
    registry.register(ProgressCollector(Progress(), Sums()))
    text = generate_latest(registry).decode()
    assert "sendtrace_exporter_lag_records 0.0" in text
    assert "sendtrace_exporter_seconds_since_answer" in text


async def test_ready_only_at_the_end_as_it_was_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog()
    for count in range(1, 4):
        log.put(*record(1, messages=count))
    gate = asyncio.Event()
    read = MemoryConsumer._read
    # One record a poll, and the last one only when the gate opens.
    monkeypatch.setattr(
        MemoryConsumer,
        "_read",
        lambda self, tp, _: (
            [] if self._positions[tp] == 2 and not gate.is_set() else read(self, tp, 1)
        ),
    )
    async with exporting(log) as running:
        await until(lambda: running.progress.records_read == 2)
        await asyncio.sleep(0.01)
        assert not running.health.ready
        gate.set()
        await until(lambda: running.health.ready)
        assert list(running.sums.counters["messages"].values()) == [3]


async def test_ready_although_the_last_offsets_are_control_records() -> None:
    log = MemoryLog()
    for partition, end in ((0, "commit_transaction"), (1, "abort_transaction")):
        producer = log.producer(transactional_id=f"t{partition}")
        await producer.start()
        await producer.begin_transaction()
        batch = producer.create_batch()
        _, _, key, value = record(partition, messages=5)
        batch.append(timestamp=None, key=key, value=value)
        await producer.send_batch(batch, TOPIC, partition=partition)
        await getattr(producer, end)()
    async with exporting(log) as running:
        await until(lambda: running.health.ready)
        assert list(running.sums.counters["messages"].values()) == [5]


async def test_an_empty_topic_is_read_to_the_end() -> None:
    async with exporting(MemoryLog()) as running:
        await until(lambda: running.health.ready)


async def test_goes_on_reading_and_two_exporters_show_the_same() -> None:
    log = MemoryLog()
    log.put(*record(0, messages=1))
    async with exporting(log) as first, exporting(log) as second:
        await until(lambda: first.health.ready and second.health.ready)
        log.put(*record(0, messages=6))
        log.put(*record(2, messages=1))
        await until(lambda: first.progress.records_read == second.progress.records_read == 3)
        assert samples(first.sums) == samples(second.sums)
        assert first.sums.counters["messages"] == {tuple(LABELS.values()): 7}


async def test_a_record_that_cannot_be_read_ends_the_process() -> None:
    log = MemoryLog()
    log.put(TOPIC, 0, record(0)[2], b"no totals")
    task = asyncio.create_task(export(log, SETTINGS, Sums(), Health(), asyncio.Event()))
    with pytest.raises(ExceptionGroup) as raised:
        await task
    assert raised.group_contains(TotalsError)


TEXT = "text/plain;version=0.0.4;q=0.3"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"


@asynccontextmanager
async def serving(
    health: Health, sums: Sums, progress: Progress | None = None
) -> AsyncIterator[Callable[..., Awaitable[tuple[int, str, str]]]]:
    """Status, content type and text of a path, over HTTP."""
    app = web.Application()
    app.add_routes(routes(health, TotalsPage(sums, progress or Progress())))
    async with http_server(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:

        async def get(path: str, accept: str = TEXT) -> tuple[int, str, str]:
            url = f"http://127.0.0.1:{port}{path}"
            async with session.get(url, headers={"Accept": accept}) as response:
                return response.status, response.headers["Content-Type"], await response.text()

        yield get


async def test_metrics_and_readiness_answer_503_until_ready() -> None:
    health = Health()
    paths = ("/metrics", "/readyz", "/livez")
    async with serving(health, Sums()) as get:
        before = [(await get(path))[0] for path in paths]
        health.set_ready()
        after = [(await get(path))[0] for path in paths]
    assert (before, after) == ([503, 503, 200], [200, 200, 200])


async def test_openmetrics_for_those_who_ask_and_the_same_figures() -> None:
    health = Health()
    health.set_ready()
    async with serving(health, applied(MESSAGES, TotalsRecord(counters={"messages": 3}))) as get:
        _, plain_type, plain = await get("/metrics")
        _, open_type, openmetrics = await get("/metrics", OPENMETRICS)
        malformed = await get("/metrics", "application/openmetrics-text;version=of mine")
    assert plain_type.startswith("text/plain; version=0.0.4")
    assert open_type.startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.count("# EOF") == 1
    assert malformed[:2] == (200, open_type)
    families = {family.name: family for family in openmetrics_families(openmetrics)}
    assert [s.value for s in families["sendtrace_messages"].samples] == [3]
    lines = [line for line in plain.splitlines() if line.startswith("sendtrace_messages_total{")]
    assert lines
    assert set(lines) <= set(openmetrics.splitlines())


async def test_figures_are_rendered_when_they_changed_for_a_quarter_of_the_time_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("sinks.exporter.time", SimpleNamespace(monotonic=lambda: clock.now))
    sums, rendered = Sums(), []
    collect = TotalsCollector.collect

    def slowly(self: TotalsCollector) -> Iterator[object]:
        rendered.append(round(clock.now, 1))
        clock.now += 0.1  # what it takes
        return collect(self)

    monkeypatch.setattr(TotalsCollector, "collect", slowly)
    page = TotalsPage(sums, Progress())
    total = 'outcome="outcome of messages",traffic="traffic of messages"} '

    def shown() -> bool:
        return total in page(TEXT)[0].decode()

    assert not shown()
    sums.apply(*record(0, messages=3)[2:])
    clock.now = 100.3
    assert not shown()
    clock.now = 100.5
    assert shown()
    clock.now += 100
    assert shown()
    assert rendered == [100.0, 100.5]


def test_ten_thousand_label_sets_are_rendered_within_a_second() -> None:
    """The bound that docs/metrics.md tells: what one scrape costs, in time of our processor.

    The best of three: who shares the processor, and what else is collected here, cost time too.
    """
    sums = Sums()
    value = msgspec.json.encode(TotalsRecord(counters={"messages": 1}))
    for number in range(10_000):
        labels = {**LABELS, "account": f"account{number}"}
        sums.apply(totals_key("join", 0, label_set(labels)), value)
    page = TotalsPage(sums, Progress())
    for accept in (TEXT, OPENMETRICS):
        seconds = []
        for _ in range(3):
            began = time.process_time()
            body, _ = page(accept)
            seconds.append(time.process_time() - began)
        assert min(seconds) < 1
        assert body.count(b"\nsendtrace_messages_total{") == 10_000


def test_the_page_does_not_depend_on_the_order_in_which_keys_came() -> None:
    value = msgspec.json.encode(TotalsRecord(counters={"messages": 1, "events": 2}))
    timed = msgspec.json.encode(observed(CARRIER_LATENCY, 1, first=1, second=1, last=1))
    records = []
    for number in range(50):
        for metric, encoded in ((MESSAGES, value), (EVENTS, value), (CARRIER_LATENCY, timed)):
            labels = {label: f"{label}{number}" for label in metric.labels}
            records.append((totals_key("join", number % 3, label_set(labels)), encoded))
    pages = []
    for order in (records, records[::-1]):
        sums = Sums()
        for key, encoded in order:
            sums.apply(key, encoded)
        registry = CollectorRegistry()
        registry.register(TotalsCollector(sums))
        pages.append(generate_latest(registry))
    assert pages[0] == pages[1]
    assert len(pages[0].splitlines()) > 1000


async def test_it_tells_how_the_reading_goes() -> None:
    log = MemoryLog(now_ms=lambda: 1_790_000_000_500)
    log.put(*record(0, messages=1))
    async with exporting(log) as running:
        await until(lambda: running.health.ready and running.progress.records_read == 1)
        page = TotalsPage(running.sums, running.progress)(TEXT)[0].decode()
    own = {
        line.name.removeprefix("sendtrace_exporter_"): line.value
        for family in text_string_to_metric_families(page)
        for line in family.samples
        if line.name.startswith("sendtrace_exporter_")
    }
    assert own["records_read_total"] == own["keys"] == 1
    assert 0 < own["render_seconds"] < 5
    assert 0 <= own["seconds_since_poll"] < 5
    assert 0 <= own["seconds_since_answer"] < 5
    assert own["last_record_timestamp_seconds"] == 1_790_000_000.5
    assert own["regressions_total"] == own["unknown_names"] == own["lag_records"] == 0


async def test_totals_made_anew_or_given_partitions_stop_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Figures of the one log would be mixed with those of the other."""
    monkeypatch.setattr(topic_watch, "LOOK_SECONDS", 0.01)
    log = MemoryLog()
    with pytest.raises(ExceptionGroup) as remade:
        async with exporting(log) as running:
            await until(lambda: running.health.ready)
            log.remake(TOPIC)
            await asyncio.sleep(0.2)
    with pytest.raises(ExceptionGroup) as grown:
        async with exporting(log) as running:
            await until(lambda: running.health.ready)
            log.counts[TOPIC] = 7
            await asyncio.sleep(0.2)
    assert remade.group_contains(TopicChanged, match="totals was made anew")
    assert grown.group_contains(TopicChanged, match="has 7 partitions and must have 6")


async def test_records_of_totals_deleted_unread_stop_it() -> None:
    log = MemoryLog()
    with pytest.raises(ExceptionGroup) as raised:
        async with exporting(log) as running:
            await until(lambda: running.health.ready)
            log.put(*record(0, messages=3))
            log.put(*record(0, messages=4))
            log.delete_until(Partition(TOPIC, 0), 2)
            await asyncio.sleep(0.2)
    assert raised.group_contains(PositionLost, match=r"offset 0 of sendtrace\.totals-0")
