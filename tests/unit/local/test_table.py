"""The live table: figures from scraped pages, told without guessing."""

from io import StringIO

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from ingest.errors import KAFKA_SLOW, QUARANTINED, SENDS_ACCEPTED
from ingest.metrics import Metrics
from schemas import metrics
from schemas.vonage.errors import lookup
from sendtrace.local import figures as shown_figures
from sendtrace.local.figures import (
    Failure,
    Figures,
    Latency,
    Pick,
    Scrape,
    figures,
    samples,
)
from sendtrace.local.table import line, table

EDGE = """
# TYPE sendtrace_edge_answers_total counter
sendtrace_edge_answers_total{answer="accepted",reason="",route="webhooks",status="200"} %d
sendtrace_edge_answers_total{answer="quarantined",reason="x",route="webhooks",status="200"} 3
sendtrace_edge_answers_total{answer="kafka_slow",reason="",route="webhooks",status="503"} 2
sendtrace_edge_answers_total{answer="sends_accepted",reason="",route="sends",status="200"} 40
"""
JOINER = """
# TYPE sendtrace_loop_records_total counter
sendtrace_loop_records_total %d
# TYPE sendtrace_loop_lag_records gauge
sendtrace_loop_lag_records 7
"""
EXPORTER = """
# TYPE sendtrace_messages_total counter
sendtrace_messages_total{account="a",api="sms",channel="sms",outcome="pending"} 50
sendtrace_messages_total{account="a",api="sms",channel="sms",outcome="delivered"} 30
sendtrace_messages_total{account="b",api="sms",channel="sms",outcome="delivered"} 10
sendtrace_messages_total{account="b",api="sms",channel="sms",outcome="unknown"} 1
# TYPE sendtrace_messages_withdrawn_total counter
sendtrace_messages_withdrawn_total{account="a",api="sms",channel="sms",outcome="pending"} 45
sendtrace_messages_withdrawn_total{account="b",api="sms",channel="sms",outcome="unknown"} 1
# TYPE sendtrace_events_total counter
sendtrace_events_total{input="statuses",result="quarantined"} 3
sendtrace_events_total{input="parts",result="quarantined"} 2
sendtrace_events_total{input="statuses",result="new"} 90
# TYPE sendtrace_exporter_lag_records gauge
sendtrace_exporter_lag_records 0
"""
LOADER = """
# TYPE sendtrace_loader_quarantined_total counter
sendtrace_loader_quarantined_total 4
"""


def scrape(at_seconds: float, **pages: str) -> Scrape:
    return Scrape(at_seconds, {name: samples(page) for name, page in pages.items()})


@pytest.mark.parametrize(
    "pick",
    [
        shown_figures.EDGE_WEBHOOKS,
        shown_figures.EDGE_SENDS,
        shown_figures.EDGE_REFUSED,
        shown_figures.QUARANTINED["edge"],
    ],
    ids=lambda pick: "-".join(pick.labels.values()),
)
def test_what_is_picked_is_what_the_edge_shows(pick: Pick) -> None:
    registry = CollectorRegistry()
    edge = Metrics(registry)
    edge.answered("webhooks", QUARANTINED, "not JSON", "abcd1234")
    edge.answered("webhooks", KAFKA_SLOW)
    edge.answered("sends", SENDS_ACCEPTED)
    page = samples(generate_latest(registry).decode())
    assert [s for s in page if s.name == pick.name and pick.labels.items() <= s.labels.items()]


def test_what_is_picked_is_in_the_catalogue() -> None:
    assert "outcome" in metrics.MESSAGES.labels
    assert metrics.MESSAGES.withdrawable


def test_rates_are_growth_per_second() -> None:
    before = scrape(10.0, edge=EDGE % 100, joiner=JOINER % 1000)
    now = scrape(12.0, edge=EDGE % 180, joiner=JOINER % 1300)
    shown = figures(before, now)
    assert (shown.webhooks_per_second, shown.sends_per_second) == (40.0, 0.0)
    assert shown.joined_per_second == 150.0


def test_a_restarted_process_counts_from_zero_and_no_rate_is_negative() -> None:
    before = scrape(10.0, edge=EDGE % 5000)
    assert figures(before, scrape(11.0, edge=EDGE % 15)).webhooks_per_second == 20.0


def test_without_an_earlier_scrape_there_are_no_rates() -> None:
    shown = figures(None, scrape(10.0, edge=EDGE % 100))
    assert shown.webhooks_per_second is None


def test_outcomes_are_what_entered_less_what_left_largest_first() -> None:
    shown = figures(None, scrape(1.0, exporter=EXPORTER))
    assert shown.outcomes == (("delivered", 40), ("pending", 5))


def test_refused_quarantined_and_lags() -> None:
    shown = figures(None, scrape(1.0, edge=EDGE % 100, joiner=JOINER % 1, exporter=EXPORTER))
    assert (shown.refused, shown.quarantined) == (2, 8)
    assert shown.lags == (
        ("joiner", 7),
        ("rollup", None),
        ("loader", None),
        ("exporter", 0),
    )


def test_what_any_process_put_aside_is_quarantined() -> None:
    pages = {"edge": EDGE % 100, "exporter": EXPORTER, "loader": LOADER}
    assert figures(None, scrape(1.0, **pages)).quarantined == 3 + 3 + 2 + 4
    assert figures(None, scrape(1.0, loader=LOADER)).quarantined == 4
    assert figures(None, scrape(1.0)).quarantined is None


def test_a_process_that_does_not_answer_is_unknown_and_not_zero() -> None:
    shown = figures(scrape(1.0), scrape(2.0))
    assert (shown.webhooks_per_second, shown.refused) == (None, None)
    assert line(shown) == (
        "webhooks/s -  sends/s -  joined/s -  |  none yet  |  delivered - of answered, "
        "- of accepted  |  behind by joiner=- rollup=- loader=- exporter=-"
    )


RATES = """
# TYPE sendtrace_messages_total counter
sendtrace_messages_total{outcome="delivered",traffic="live"} 80
sendtrace_messages_total{outcome="read",traffic="live"} 10
sendtrace_messages_total{outcome="rejected",traffic="live"} 10
sendtrace_messages_total{outcome="pending",traffic="live"} 80
sendtrace_messages_total{outcome="refused",traffic="live"} 7
sendtrace_messages_total{outcome="delivered",traffic="test"} 1000
# TYPE sendtrace_codes_total counter
sendtrace_codes_total{api="messages",code="1240",outcome="rejected",traffic="live"} 8
sendtrace_codes_total{api="sms",code="9",outcome="failed",traffic="live"} 9
sendtrace_codes_total{api="sms",code="none",outcome="expired",traffic="live"} 1
sendtrace_codes_total{api="sms",code="1",outcome="refused",traffic="live"} 2
sendtrace_codes_total{api="sms",code="4711",outcome="failed",traffic="live"} 3
# TYPE sendtrace_codes_withdrawn_total counter
sendtrace_codes_withdrawn_total{api="sms",code="9",outcome="failed",traffic="live"} 3
# TYPE sendtrace_carrier_latency_seconds histogram
sendtrace_carrier_latency_seconds_bucket{le="1.0",traffic="live"} 10
sendtrace_carrier_latency_seconds_bucket{le="2.0",traffic="live"} 90
sendtrace_carrier_latency_seconds_bucket{le="+Inf",traffic="live"} 100
sendtrace_carrier_latency_seconds_count{traffic="live"} 100
sendtrace_carrier_latency_seconds_sum{traffic="live"} 150
"""


def test_two_delivery_rates_without_test_traffic_and_refusals() -> None:
    shown = figures(None, scrape(1.0, exporter=RATES))
    assert shown.of_answered == 90 / 100
    assert shown.of_accepted == 90 / 180


def test_failures_are_told_in_words_the_most_frequent_first() -> None:
    shown = figures(None, scrape(1.0, exporter=RATES))
    assert shown.failures == (
        Failure("1240", f"rejected: {lookup('messages', '1240').name}", 8),
        Failure("9", f"failed: {lookup('dlr', '9').name}", 6),
        Failure("4711", "failed: a code that is not in the catalogue", 3),
        Failure("1", f"refused: {lookup('sms_send', '1').name}", 2),
        Failure("none", "expired: nobody confirmed it in time", 1),
    )


def test_a_failure_without_a_code_is_no_success() -> None:
    page = """
# TYPE sendtrace_codes_total counter
sendtrace_codes_total{api="messages",code="none",outcome="rejected",traffic="live"} 4
"""
    [shown] = figures(None, scrape(1.0, exporter=page)).failures
    assert shown == Failure("none", "rejected: no code was told", 4)


def test_latencies_come_from_the_buckets_as_in_prometheus() -> None:
    shown = figures(None, scrape(1.0, exporter=RATES))
    assert shown.latencies == (Latency("carrier", 100, 1.5, 2.0),)


def test_the_table_shows_every_figure_in_80_columns() -> None:
    shown = Figures(
        31.25, 20.0, 50.0, 0, 3, (("delivered", 12345),), (("joiner", 7),), 0.961, 0.91,
        (Latency("carrier", 9, 2.125, 61.0),), (Failure("1240", "rejected: spam", 77),), 12_340_000,
    )  # fmt: skip
    console = Console(width=80, file=StringIO())
    with console.capture() as captured:
        console.print(table(shown))
    text = captured.get()
    for expected in (
        "31.2", "20.0", "50.0", "12,345", "delivered", "joiner behind by", "3", "96.1 %", "91.0 %",
        "2.12 s", "61 s", "77", "1240", "rejected: spam", "12.3 MB",
    ):  # fmt: skip
        assert expected in text
    assert "\u2026" not in text  # nothing was cut off
