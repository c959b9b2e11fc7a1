"""The sums: exact, whatever the order of keys, however often a record is applied."""

import random

import msgspec
import pytest

from schemas.metrics import LATENCY_BUCKETS_MS
from schemas.totals import Histogram, TotalsRecord, label_set, positions_key, totals_key
from sinks.sums import Sums, TotalsError

EU = {"account": "a1", "api": "sms", "channel": "sms", "outcome": "delivered"}
OTHER = dict.fromkeys(EU, "other")
LATENCY = {"account": "a1", "api": "sms", "channel": "sms"}


def key(labels: dict[str, str], partition: int = 0, stage: str = "join") -> bytes:
    return totals_key(stage, partition, label_set(labels))


def counters(**counts: int) -> bytes:
    return msgspec.json.encode(TotalsRecord(counters=counts))


def latency(bucket: int, count: int, sum_ms: int) -> bytes:
    buckets = [0] * (len(LATENCY_BUCKETS_MS) + 1)
    buckets[bucket] = count
    return msgspec.json.encode(
        TotalsRecord(histograms={"carrier_latency": Histogram(buckets, sum_ms)})
    )


def values(labels: dict[str, str], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(labels[name] for name in names)


MESSAGES = ("account", "api", "channel", "outcome")


def test_sums_over_partitions_and_stages() -> None:
    sums = Sums()
    sums.apply(key(EU, 0), counters(messages=3))
    sums.apply(key(EU, 7), counters(messages=4))
    sums.apply(key(EU, 7, "rollup"), counters(messages=5, messages_withdrawn=2))
    assert sums.counters["messages"] == {values(EU, MESSAGES): 12}
    assert sums.counters["messages_withdrawn"] == {values(EU, MESSAGES): 2}


def test_a_new_record_replaces_the_old_one_of_its_key() -> None:
    sums = Sums()
    for count in (1, 5, 5, 9):
        sums.apply(key(EU), counters(messages=count))
    assert sums.counters["messages"] == {values(EU, MESSAGES): 9}
    assert sums.regressions == 0
    assert sums.keys == 1


def test_other_stands_beside_the_admitted_label_sets() -> None:
    sums = Sums()
    sums.apply(key(EU), counters(messages=1))
    sums.apply(key(OTHER), counters(messages=2))
    assert sums.counters["messages"] == {
        values(EU, MESSAGES): 1,
        ("other", "other", "other", "other"): 2,
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
    cost = {("a1", "sms", "sms", "", ""): 12 * 29 * 10**14}
    assert results[0] == ({values(EU, MESSAGES): 12 * 29}, cost)


def test_histograms_add_up_bucket_by_bucket() -> None:
    sums = Sums()
    sums.apply(key(LATENCY, 0), latency(0, 2, 1_500))
    sums.apply(key(LATENCY, 1), latency(3, 1, 4_000))
    sums.apply(key(LATENCY, 0), latency(0, 3, 2_000))
    histogram = sums.histograms["carrier_latency"][("a1", "sms", "sms")]
    assert histogram.buckets[:4] == [3, 0, 0, 1]
    assert histogram.sum_ms == 6_000


def test_a_label_the_metric_does_not_have_is_summed_over() -> None:
    sums = Sums()
    for network in ("23410", "23420"):
        sums.apply(key(LATENCY | {"network": network}), latency(0, 1, 1))
    assert sums.histograms["carrier_latency"][("a1", "sms", "sms")].sum_ms == 2


def test_a_counter_that_went_back_is_told() -> None:
    sums = Sums()
    sums.apply(key(EU), counters(messages=5))
    sums.apply(key(EU), counters(messages=4))
    assert sums.regressions == 1
    assert sums.counters["messages"] == {values(EU, MESSAGES): 4}


def test_names_of_a_newer_version_are_told_and_left_out() -> None:
    sums = Sums()
    sums.apply(key(EU), counters(messages=1, dreams=2))
    assert sums.unknown_names == {"dreams"}
    assert sums.counters["messages"] == {values(EU, MESSAGES): 1}


def test_positions_are_not_counted() -> None:
    sums = Sums()
    sums.apply(positions_key("join", 3), b'{"v":1,"next":{"sends":5}}')
    assert sums.keys == 0


@pytest.mark.parametrize(
    ("bad_key", "value"),
    [
        (None, b"{}"),
        (b"no json", b"{}"),
        (b'["join",0,"@elsewhere"]', b"{}"),
        (key(EU), None),
        (key(EU), b"no json"),
        (key(EU), b'{"counters":{"messages":"many"}}'),
        (key(EU), b'{"v":2}'),
        (key(LATENCY), b'{"histograms":{"carrier_latency":{"buckets":[1,2]}}}'),
    ],
)
def test_what_sendtrace_never_wrote_is_refused(bad_key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(TotalsError):
        Sums().apply(bad_key, value)
