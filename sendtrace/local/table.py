"""The live table: figures from two scrapes of the processes' metrics, and how they are shown.

Pure: scraped text in, figures and rows out. A process that did not answer has None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from schemas import metrics


@dataclass(frozen=True)
class Pick:
    """Which lines of a page are meant: a name, and labels that must have these values."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


# The names of the processes' own metrics, and the catalogue's as the exporter serves them.
EDGE_WEBHOOKS = Pick("sendtrace_edge_answers_total", {"route": "webhooks"})
EDGE_SENDS = Pick("sendtrace_edge_answers_total", {"route": "sends"})
EDGE_REFUSED = Pick("sendtrace_edge_answers_total", {"status": "503"})
EDGE_QUARANTINED = Pick("sendtrace_edge_answers_total", {"answer": "quarantined"})
JOINED = Pick("sendtrace_loop_records_total")
MESSAGES = f"sendtrace_{metrics.MESSAGES.name}_total"
MESSAGES_WITHDRAWN = f"sendtrace_{metrics.withdrawn(metrics.MESSAGES.name)}_total"
LAG = {
    "joiner": Pick("sendtrace_loop_lag_records"),
    "loader": Pick("sendtrace_loop_lag_records"),
    "exporter": Pick("sendtrace_exporter_lag_records"),
}


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
class Figures:
    """What the table shows. Rates are None until there are two scrapes to compare."""

    webhooks_per_second: float | None
    sends_per_second: float | None
    joined_per_second: float | None
    refused: int | None
    quarantined: int | None
    outcomes: tuple[tuple[str, int], ...]
    lags: tuple[tuple[str, int | None], ...]


def samples(page: str) -> tuple[Sample, ...]:
    """The lines of a metrics page. Raises ValueError when it is none."""
    return tuple(
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    )


def figures(before: Scrape | None, now: Scrape) -> Figures:
    """What changed between two scrapes, and what stands."""
    return Figures(
        webhooks_per_second=_rate(before, now, "edge", EDGE_WEBHOOKS),
        sends_per_second=_rate(before, now, "edge", EDGE_SENDS),
        joined_per_second=_rate(before, now, "joiner", JOINED),
        refused=_whole(_sum(now, "edge", EDGE_REFUSED)),
        quarantined=_whole(_sum(now, "edge", EDGE_QUARANTINED)),
        outcomes=_outcomes(now.pages.get("exporter", ())),
        lags=tuple((name, _whole(_sum(now, name, pick))) for name, pick in LAG.items()),
    )


def line(shown: Figures) -> str:
    """One line, for logs and pipes."""
    outcomes = " ".join(f"{name}={count}" for name, count in shown.outcomes) or "none yet"
    lags = " ".join(f"{name}={_text(lag)}" for name, lag in shown.lags)
    return (
        f"webhooks/s {_text(shown.webhooks_per_second)}  sends/s {_text(shown.sends_per_second)}  "
        f"joined/s {_text(shown.joined_per_second)}  |  {outcomes}  |  behind by {lags}"
    )


def table(shown: Figures) -> Table:
    """The same for a terminal."""
    grid = Table(box=None, show_header=False, padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(justify="right")
    grid.add_column(style="bold")
    grid.add_column(justify="right")
    left = [
        ("webhooks/s", _text(shown.webhooks_per_second)),
        ("sends/s", _text(shown.sends_per_second)),
        ("joined/s", _text(shown.joined_per_second)),
        ("refused (503)", _text(shown.refused)),
        ("quarantined", _text(shown.quarantined)),
        *((f"{name} behind by", _text(lag)) for name, lag in shown.lags),
    ]
    right = [(name, f"{count:,}") for name, count in shown.outcomes] or [("no messages yet", "")]
    for (name, value), (outcome, count) in zip_longest(left, right, fillvalue=("", "")):
        grid.add_row(name, value, outcome, count)
    return grid


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


def _outcomes(page: Iterable[Sample]) -> tuple[tuple[str, int], ...]:
    """Messages by outcome as they are now: entered less withdrawn; the largest first."""
    counts: dict[str, float] = {}
    for sample in page:
        sign = {MESSAGES: 1, MESSAGES_WITHDRAWN: -1}.get(sample.name)
        if sign is not None:
            outcome = sample.labels.get("outcome", "")
            counts[outcome] = counts.get(outcome, 0.0) + sign * sample.value
    standing = [(name, round(count)) for name, count in counts.items() if round(count)]
    return tuple(sorted(standing, key=lambda entry: (-entry[1], entry[0])))


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
