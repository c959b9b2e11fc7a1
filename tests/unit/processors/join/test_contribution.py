"""What a message counts for: the figures of docs/rules.md 7."""

from __future__ import annotations

import pytest

from processors.join.contribution import NOTHING, Totals, contribution
from processors.join.standing import Amounts
from schemas.events import Segment
from schemas.lifecycle import Overdue
from schemas.metrics import CATALOGUE, LATENCIES, MESSAGES, withdrawn
from schemas.totals import LabelSet

from strategies import S, T, Told, at, overdue, receipt, send, status, summary

SENT = send(
    account="acc1", channel="sms", sender="Acme", recipient="447400123456", network="23410",
    requested_at_us=at(0), answered_at_us=at(0.25), clock="ours", price_units=7,
)  # fmt: skip
BOTH = (Segment("delivered", at(3), S), Segment("delivered", at(4), S))
DELIVERED = status("delivered", 9, price_units=3, segments=2, segments_detail=BOTH)
DONE = [SENT, status("submitted", 1), DELIVERED]


def labels_of(metric: str, amounts: Amounts) -> list[tuple[dict[str, str], int]]:
    return [(dict(labels), n) for (labels, name), n in amounts.items() if name == metric]


def stands(metric: str, *events: Told) -> list[tuple[dict[str, str], int]]:
    return labels_of(metric, contribution(summary(*events)).amounts)


@pytest.mark.parametrize(
    ("metric", "events", "labels", "amount"),
    [
        ("messages", DONE, {"outcome": "delivered", "country": "GB", "traffic": "live"}, 1),
        ("network_messages", DONE, {"network": "23410", "outcome": "delivered"}, 1),
        ("sender_messages", DONE, {"sender": "Acme", "outcome": "delivered"}, 1),
        ("sends", DONE, {"answer": "accepted", "status": "202"}, 1),
        ("sends", [send(refused=True, answer="throttled", answer_status="1")],
         {"answer": "throttled", "status": "1"}, 1),
        ("codes", [receipt("failed", code="9")],
         {"code": "9", "category": "number", "outcome": "failed"}, 1),
        ("unknown_codes", [receipt("failed", code="4711")], {"code": "4711"}, 1),
        ("unknown_codes", [status("new-word")], {"status": "new-word"}, 1),
        ("cost", DONE, {"cost_source": "event", "currency": "EUR", "account": "acc1"}, 3),
        ("segments", DONE, {"account": "acc1"}, 2),
        ("segments", [receipt("delivered")], {"api": "sms_or_alerts"}, 1),
        ("segmented_sends", [send(api="sms", part=1, parts=2)], {"api": "sms"}, 1),
        ("messages_without_send", [receipt("delivered")], {"api": "sms_or_alerts"}, 1),
        ("flagged", [send(), Overdue("no_first_event", T)], {"flag": "no_first_event"}, 1),
        ("flagged", [Overdue("no_send", T), status("submitted")], {"flag": "no_send"}, 1),
        ("flagged", [send(), overdue()], {"flag": "overdue"}, 1),
        ("flagged", [status("failed"), status("read")], {"flag": "contradiction"}, 1),
        ("flagged", [SENT, status("read", account="acc2")], {"flag": "foreign_account"}, 1),
        ("flagged", [send(ttl_ms=1), status("read", arrived_at_us=at(3601))], {"flag": "late"}, 1),
    ],
)  # fmt: skip
def test_what_a_message_counts_for(
    metric: str, events: list[Told], labels: dict[str, str], amount: int
) -> None:
    [(found, n)] = stands(metric, *events)
    assert found.items() >= labels.items()
    assert n == amount


def test_estimate_and_price_are_compared_where_both_are_known() -> None:
    both = stands("cost_compared", *DONE)
    assert sorted((labels["cost_source"], n) for labels, n in both) == [
        ("estimate", 7), ("event", 3),
    ]  # fmt: skip
    assert not stands("cost_compared", SENT)


@pytest.mark.parametrize(
    ("metric", "events"),
    [
        ("segmented_sends", [send(api="sms", part=2, parts=2)]),
        ("messages_without_send", [send(), status("submitted")]),
        ("codes", [receipt("accepted", code="7")]),
        ("codes", [status("delivered", code="1300")]),
        ("cost", [send()]),
    ],
)
def test_what_it_does_not_count_for(metric: str, events: list[Told]) -> None:
    assert not stands(metric, *events)


def test_every_amount_has_the_labels_of_its_metric() -> None:
    by_name = {metric.name: metric for metric in CATALOGUE}
    lives = [DONE, [send(), overdue()], [receipt("failed", code="4711")], [status("new-word")]]
    for events in lives:
        for labels, name in contribution(summary(*events)).amounts:
            assert tuple(label for label, _ in labels) == by_name[name].labels


def test_labels_stand_sorted_and_every_histogram_has_as_many_buckets() -> None:
    for metric in CATALOGUE:
        assert list(metric.labels) == sorted(metric.labels)
        assert list(metric.buckets_ms) == sorted(metric.buckets_ms)
    assert len({len(metric.buckets_ms) for metric in CATALOGUE}) == 1
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)


# -- totals ------------------------------------------------------------------------------------


def counters(totals: Totals) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, record in totals.changed():
        for name, value in record.counters.items():
            found[name] = found.get(name, 0) + value
    return found


def histograms(totals: Totals) -> dict[tuple[str, str], tuple[int, int]]:
    """By metric and clock: how many, and how long together."""
    return {
        (name, dict(labels)["clock"]): (sum(histogram.buckets), histogram.sum_ms)
        for labels, record in totals.changed()
        for name, histogram in record.histograms.items()
    }


def moved(*steps: list[Told] | None) -> Totals:
    totals, old = Totals(limit=100), NOTHING
    for events in steps:
        new = contribution(summary(*events)) if events is not None else NOTHING
        totals.move(old, new)
        old = new
    return totals


def test_differences_go_to_the_counter_and_its_twin() -> None:
    totals = moved([SENT], DONE)
    assert counters(totals)[MESSAGES.name] == 2
    assert counters(totals)[withdrawn(MESSAGES.name)] == 1


def test_an_erased_message_is_withdrawn_and_its_latency_stays_observed() -> None:
    totals = moved(DONE, None)
    found = counters(totals)
    for name, value in found.items():
        assert found.get(withdrawn(name), value) == value
    assert ("carrier_latency", "vonage") in histograms(totals)


def test_each_stage_is_observed_once_under_its_clock() -> None:
    totals = moved([SENT], DONE[:2], DONE, DONE)
    assert histograms(totals) == {
        ("accept_latency", "ours"): (1, 250),
        ("deliver_latency", "mixed"): (1, 4000),
        ("carrier_latency", "vonage"): (1, 3000),
        ("callback_latency", "mixed"): (1, 0),
        ("ingest_lag", "mixed"): (1, 0),
    }


def test_the_clients_clock_is_another_series() -> None:
    client = send(requested_at_us=at(0), answered_at_us=at(1))
    found = histograms(moved([client, status("delivered", 4)]))
    assert {key for key in found if "client" in key} == {
        ("accept_latency", "client"), ("deliver_latency", "client"),
    }  # fmt: skip


def test_a_correction_is_counted_and_not_subtracted() -> None:
    totals = moved(DONE, [*DONE, receipt("delivered", 3)])
    assert histograms(totals)["carrier_latency", "vonage"] == (1, 3000)
    assert counters(totals)["latency_corrections"] == 2  # carrier and deliver


def test_an_aggregated_latency_stays_out() -> None:
    held = status("delivered", 300, segments=2, segments_detail=(Segment(), Segment()))
    found = histograms(moved([SENT, status("submitted", 1), held]))
    assert {name for name, _ in found} == {"accept_latency", "callback_latency", "ingest_lag"}


def test_label_sets_beyond_the_limit_count_as_other() -> None:
    totals = Totals(limit=2)
    for number in range(4):
        totals.add((("account", f"a{number}"),), "messages", 1)
    found: dict[LabelSet, int] = {
        labels: record.counters["messages"] for labels, record in totals.changed()
    }
    assert found == {(("account", "a0"),): 1, (("account", "a1"),): 1, (("account", "other"),): 2}


def test_a_step_of_the_bucket_is_the_last_that_fits() -> None:
    totals = moved([SENT, status("submitted", 1), status("delivered", 3, provider_step_us=S)])
    [histogram] = [
        record.histograms["carrier_latency"]
        for _, record in totals.changed()
        if "carrier_latency" in record.histograms
    ]
    assert histogram.buckets[LATENCIES[0].buckets_ms.index(2000)] == 1
