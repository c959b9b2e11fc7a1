"""The figures of the live table, from two scrapes of the processes' metrics. Pure.

A process that did not answer has None, never 0. Test traffic stays out of rates and latencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from schemas import metrics
from schemas.metrics import Metric
from schemas.vonage import errors


@dataclass(frozen=True)
class Pick:
    """Which lines of a page are meant: a name, and labels that must have these values."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


# The names of the processes' own metrics, and the catalogue's as the exporter serves them.
EDGE_WEBHOOKS = Pick("sendtrace_edge_answers_total", {"route": "webhooks"})
EDGE_SENDS = Pick("sendtrace_edge_answers_total", {"route": "sends"})
EDGE_REFUSED = Pick("sendtrace_edge_answers_total", {"status": "503"})
# Each process puts aside what it cannot use: the joiner's and the rollup's count is in the totals.
QUARANTINED = {
    "edge": Pick("sendtrace_edge_answers_total", {"answer": "quarantined"}),
    "exporter": Pick(f"sendtrace_{metrics.EVENTS.name}_total", {"result": "quarantined"}),
    "loader": Pick("sendtrace_loader_quarantined_total"),
}
JOINED = Pick("sendtrace_loop_records_total")
MESSAGES = f"sendtrace_{metrics.MESSAGES.name}_total"
MESSAGES_WITHDRAWN = f"sendtrace_{metrics.withdrawn(metrics.MESSAGES.name)}_total"
CODES = f"sendtrace_{metrics.CODES.name}_total"
CODES_WITHDRAWN = f"sendtrace_{metrics.withdrawn(metrics.CODES.name)}_total"
LAG = {
    "joiner": Pick("sendtrace_loop_lag_records"),
    "rollup": Pick("sendtrace_loop_lag_records"),
    "loader": Pick("sendtrace_loop_lag_records"),
    "exporter": Pick("sendtrace_exporter_lag_records"),
}
# Which outcomes mean that somebody answered, and which that Vonage took the message.
ARRIVED = frozenset({"delivered", "read"})
ANSWERED = ARRIVED | {"rejected", "failed", "undeliverable"}
NOT_ACCEPTED = frozenset({"refused", "unanswered", "untracked"})
FAILURES_SHOWN = 5


@dataclass(frozen=True)
class Sample:
    """One line of a metrics page."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Scrape:
    """The metrics pages of one moment; a process that did not answer is absent."""

    at_seconds: float
    pages: Mapping[str, tuple[Sample, ...]]


@dataclass(frozen=True)
class Latency:
    """Of one stage: estimated from a histogram's buckets, as Prometheus does it."""

    stage: str
    number: int
    median_seconds: float
    p95_seconds: float


@dataclass(frozen=True)
class Failure:
    """One code, how often, and what it means."""

    code: str
    words: str
    number: int


@dataclass(frozen=True)
class Figures:
    """What the table shows. Rates are None until there are two scrapes to compare."""

    webhooks_per_second: float | None
    sends_per_second: float | None
    joined_per_second: float | None
    refused: int | None
    quarantined: int | None
    outcomes: tuple[tuple[str, int], ...]
    lags: tuple[tuple[str, int | None], ...]
    of_answered: float | None = None  # delivered, of those that got an answer
    of_accepted: float | None = None  # delivered, of all that Vonage accepted
    latencies: tuple[Latency, ...] = ()
    failures: tuple[Failure, ...] = ()
    database_bytes: int | None = None


def samples(page: str) -> tuple[Sample, ...]:
    """The lines of a metrics page. Raises ValueError when it is none."""
    return tuple(
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    )


def figures(before: Scrape | None, now: Scrape, database_bytes: int | None = None) -> Figures:
    """What changed between two scrapes, and what stands."""
    page = now.pages.get("exporter", ())
    live = [sample for sample in page if sample.labels.get("traffic", "live") == "live"]
    arrived, answered, accepted = _delivery(_outcomes(live))
    return Figures(
        webhooks_per_second=_rate(before, now, "edge", EDGE_WEBHOOKS),
        sends_per_second=_rate(before, now, "edge", EDGE_SENDS),
        joined_per_second=_rate(before, now, "joiner", JOINED),
        refused=_whole(_sum(now, "edge", EDGE_REFUSED)),
        quarantined=_whole(_quarantined(now)),
        outcomes=_outcomes(page),
        lags=tuple((name, _whole(_sum(now, name, pick))) for name, pick in LAG.items()),
        of_answered=arrived / answered if answered else None,
        of_accepted=arrived / accepted if accepted else None,
        latencies=tuple(
            found for metric in metrics.LATENCIES if (found := _latency(metric, live)) is not None
        ),
        failures=_failures(live),
        database_bytes=database_bytes,
    )


def _rate(before: Scrape | None, now: Scrape, process: str, pick: Pick) -> float | None:
    """Growth per second. None without two scrapes; a restarted process counts from 0 again."""
    if before is None or now.at_seconds <= before.at_seconds:
        return None
    then, today = _sum(before, process, pick), _sum(now, process, pick)
    if then is None or today is None:
        return None
    grown = today - then if today >= then else today
    return grown / (now.at_seconds - before.at_seconds)


def _sum(scrape: Scrape, process: str, pick: Pick) -> float | None:
    """The sum of the lines meant; None if the process did not answer."""
    page = scrape.pages.get(process)
    if page is None:
        return None
    return sum(
        sample.value
        for sample in page
        if sample.name == pick.name and pick.labels.items() <= sample.labels.items()
    )


def _quarantined(now: Scrape) -> float | None:
    """By all processes that answered; None if none did."""
    known = [_sum(now, process, pick) for process, pick in QUARANTINED.items()]
    told = [value for value in known if value is not None]
    return sum(told) if told else None


def _outcomes(page: Iterable[Sample]) -> tuple[tuple[str, int], ...]:
    """Messages by outcome as they are now: entered less withdrawn; the largest first."""
    standing = _standing(page, MESSAGES, MESSAGES_WITHDRAWN, "outcome")
    return tuple((outcome, number) for (outcome,), number in standing)


def _standing(
    page: Iterable[Sample], entered: str, withdrawn: str, *labels: str
) -> list[tuple[tuple[str, ...], int]]:
    """What stands now by these labels, the largest first."""
    counts: dict[tuple[str, ...], float] = {}
    for sample in page:
        sign = {entered: 1, withdrawn: -1}.get(sample.name)
        if sign is not None:
            values = tuple(sample.labels.get(label, "") for label in labels)
            counts[values] = counts.get(values, 0.0) + sign * sample.value
    standing = [(values, round(count)) for values, count in counts.items() if round(count)]
    return sorted(standing, key=lambda entry: (-entry[1], entry[0]))


def _delivery(outcomes: Iterable[tuple[str, int]]) -> tuple[int, int, int]:
    """How many arrived, got an answer, were accepted."""
    counts = dict(outcomes)
    arrived = sum(counts.get(name, 0) for name in ARRIVED)
    answered = sum(counts.get(name, 0) for name in ANSWERED)
    return arrived, answered, sum(n for name, n in counts.items() if name not in NOT_ACCEPTED)


def _failures(page: Iterable[Sample]) -> tuple[Failure, ...]:
    standing = _standing(page, CODES, CODES_WITHDRAWN, "api", "code", "outcome")
    return tuple(
        Failure(code, _words(api, code, outcome), number)
        for (api, code, outcome), number in standing[:FAILURES_SHOWN]
    )


def _words(api: str, code: str, outcome: str) -> str:
    if outcome == "expired":
        return "expired: nobody confirmed it in time"
    if code == "none":
        return f"{outcome}: no code was told"
    family: errors.Family = "messages" if api == "messages" else "dlr"
    if outcome == "refused":
        family = "problem" if api == "messages" else "sms_send"
    error = errors.lookup(family, code)
    return f"{outcome}: {error.name if error.known else 'a code that is not in the catalogue'}"


def _latency(metric: Metric, page: Iterable[Sample]) -> Latency | None:
    """Over all labels. None: nothing was observed."""
    buckets: dict[float, float] = {}
    for sample in page:
        if sample.name == f"sendtrace_{metric.name}_seconds_bucket":
            bound = float(sample.labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
    number = buckets.get(float("inf"), 0.0)
    if not number:
        return None
    return Latency(
        metric.name.removesuffix("_latency").replace("_", " "),
        round(number),
        _quantile(0.5, buckets),
        _quantile(0.95, buckets),
    )


def _quantile(share: float, buckets: Mapping[float, float]) -> float:
    """Within a bucket in a straight line; beyond the last bound, that bound."""
    wanted = share * buckets[float("inf")]
    low, below = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted:
            if bound == float("inf"):
                break
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
