"""The sums: exact, whatever the order of keys, however often a record is applied."""

import random

import msgspec
import pytest

from schemas.formats import NewerFormat
from schemas.metrics import ACCEPT_LATENCY, CARRIER_LATENCY, CATALOGUE, COST, MESSAGES, Metric
from schemas.totals import (
    Histogram,
    TotalsRecord,
    label_set,
    positions_key,
    state_key,
    totals_key,
)
from sinks.sums import Sums, TotalsError


def labels_of(metric: Metric) -> dict[str, str]:
    """A value of its own for each label that the catalogue gives the metric."""
    return {label: f"{label} of {metric.name}" for label in metric.labels}


EU = labels_of(MESSAGES)
OTHER = dict.fromkeys(EU, "other")
LATENCY = labels_of(CARRIER_LATENCY)


def key(labels: dict[str, str], partition: int = 0, stage: str = "join") -> bytes:
    return totals_key(stage, partition, label_set(labels))


def counters(**counts: int) -> bytes:
    return msgspec.json.encode(TotalsRecord(counters=counts))


def latency(bucket: int, count: int, sum_ms: int, metric: Metric = CARRIER_LATENCY) -> bytes:
    buckets = [0] * (len(metric.buckets_ms) + 1)
    buckets[bucket] = count
    return msgspec.json.encode(TotalsRecord(histograms={metric.name: Histogram(buckets, sum_ms)}))


def values(labels: dict[str, str], metric: Metric = MESSAGES) -> tuple[str, ...]:
    """As the sums have them; a label that a record does not have is empty."""
    return tuple(labels.get(name, "") for name in metric.labels)


def test_sums_over_partitions_and_stages() -> None:
    sums = Sums()
    sums.apply(key(EU, 0), counters(messages=3))
    sums.apply(key(EU, 7), counters(messages=4))
    sums.apply(key(EU, 7, "rollup"), counters(messages=5, messages_withdrawn=2))
    assert sums.counters["messages"] == {values(EU): 12}
    assert sums.counters["messages_withdrawn"] == {values(EU): 2}


def test_a_new_record_replaces_the_old_one_of_its_key() -> None:
    sums = Sums()
    for count in (1, 5, 5, 9):
        sums.apply(key(EU), counters(messages=count))
    assert sums.counters["messages"] == {values(EU): 9}
    assert sums.regressions == 0
    assert sums.keys == 1


def test_other_stands_beside_the_admitted_label_sets() -> None:
    sums = Sums()
    sums.apply(key(EU), counters(messages=1))
    sums.apply(key(OTHER), counters(messages=2))
    assert sums.counters["messages"] == {
        values(EU): 1,
        values(OTHER): 2,
    }


def test_any_interleaving_of_keys_gives_the_same_exact_sums() -> None:
    rng = random.Random(1)
    streams = [
        [(key(EU, partition), counters(messages=n, cost=n * 10**14)) for n in range(1, 30)]
        for partition in range(12)
    ]
    results = []
    for _ in range(5):
        sums, left = Sums(), [list(stream) for stream in streams]
        while any(left):
            stream = rng.choice([stream for stream in left if stream])
            sums.apply(*stream.pop(0))
        results.append((sums.counters["messages"], sums.counters["cost"]))
    assert all(result == results[0] for result in results)
    # Beyond what a float holds exactly: integers all the way.
    cost = {values(EU, COST): 12 * 29 * 10**14}
    assert results[0] == ({values(EU): 12 * 29}, cost)


def test_histograms_add_up_bucket_by_bucket() -> None:
    sums = Sums()
    sums.apply(key(LATENCY, 0), latency(0, 2, 1_500))
    sums.apply(key(LATENCY, 1), latency(3, 1, 4_000))
    sums.apply(key(LATENCY, 0), latency(0, 3, 2_000))
    histogram = sums.histograms[CARRIER_LATENCY.name][values(LATENCY, CARRIER_LATENCY)]
    assert histogram.buckets[:4] == [3, 0, 0, 1]
    assert histogram.sum_ms == 6_000


def test_a_label_the_metric_does_not_have_is_summed_over() -> None:
    sums = Sums()
    for shoe_size in ("41", "42"):
        sums.apply(key(LATENCY | {"shoe_size": shoe_size}), latency(0, 1, 1))
    [histogram] = sums.histograms[CARRIER_LATENCY.name].values()
    assert histogram.sum_ms == 2


def test_every_metric_of_the_catalogue_is_summed_under_its_own_labels() -> None:
    """One record of a label set holds whatever has these labels, as the joiner writes it."""
    sums, partitions = Sums(), 3
    for partition in range(partitions):
        for metric in CATALOGUE:
            if metric.kind == "counter":
                record = counters(**{metric.name: 5})
            else:
                record = latency(-1, 5, 500, metric)
            sums.apply(key(labels_of(metric), partition), record)
    assert sums.unknown_names == set()
    for metric in CATALOGUE:
        own = values(labels_of(metric), metric)
        assert "" not in own
        if metric.kind == "counter":
            assert sums.counters[metric.name] == {own: 5 * partitions}
        else:
            assert sums.histograms[metric.name][own].buckets[-1] == 5 * partitions


def test_histograms_may_differ_in_their_number_of_buckets() -> None:
    coarse = msgspec.structs.replace(CARRIER_LATENCY, buckets_ms=(1_000, 60_000))
    sums = Sums((coarse, ACCEPT_LATENCY))
    for partition, metric in enumerate((coarse, ACCEPT_LATENCY)):
        sums.apply(key(LATENCY, partition), latency(-1, 1, 1, metric))
    [coarse_sum] = sums.histograms[coarse.name].values()
    assert coarse_sum.buckets == [0, 0, 1]
    with pytest.raises(TotalsError):
        sums.apply(key(LATENCY), latency(0, 1, 1))


def test_a_counter_that_went_back_is_told() -> None:
    sums = Sums()
    sums.apply(key(EU), counters(messages=5))
    sums.apply(key(EU), counters(messages=4))
    assert sums.regressions == 1
    assert sums.counters["messages"] == {values(EU): 4}


def test_names_of_a_newer_version_are_told_and_left_out() -> None:
    sums = Sums()
    sums.apply(key(EU), counters(messages=1, dreams=2))
    dreamt = TotalsRecord(counters={"messages": 1}, histograms={"dream": Histogram([1, 2])})
    sums.apply(key(EU), msgspec.json.encode(dreamt))
    assert sums.unknown_names == {"dreams", "dream"}
    assert sums.counters["messages"] == {values(EU): 1}


def test_positions_and_other_states_are_not_counted() -> None:
    """Whatever a state holds: it is the stage's own."""
    sums = Sums()
    sums.apply(positions_key("join", 3), b'{"v":1,"next":{"sends":5}}')
    sums.apply(state_key("join", 3, "@elsewhere"), b"no totals")
    assert sums.keys == 0


@pytest.mark.parametrize(
    ("bad_key", "value"),
    [
        (None, b"{}"),
        (b"no json", b"{}"),
        (b'["join",0,"elsewhere"]', b"{}"),
        (key(EU), None),
        (key(EU), b"no json"),
        (key(EU), b'{"counters":{"messages":"many"}}'),
        (key(LATENCY), b'{"histograms":{"carrier_latency":{"buckets":[1,2]}}}'),
    ],
)
def test_what_sendtrace_never_wrote_is_refused(bad_key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(TotalsError):
        Sums().apply(bad_key, value)


def test_totals_of_a_newer_version_are_refused() -> None:
    with pytest.raises(NewerFormat, match=r"TotalsRecord of format 2 .* up to 1"):
        Sums().apply(key(EU), b'{"v":2}')
