"""How the figures of a running stack are shown: a table for a terminal, a line for a pipe. Pure."""

from __future__ import annotations

from itertools import zip_longest

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sendtrace.local.figures import Figures


def line(shown: Figures) -> str:
    """One line, for logs and pipes."""
    outcomes = " ".join(f"{name}={count}" for name, count in shown.outcomes) or "none yet"
    lags = " ".join(f"{name}={_text(lag)}" for name, lag in shown.lags)
    return "  |  ".join(
        [
            f"webhooks/s {_text(shown.webhooks_per_second)}  "
            f"sends/s {_text(shown.sends_per_second)}  joined/s {_text(shown.joined_per_second)}",
            outcomes,
            f"delivered {_share(shown.of_answered)} of answered, "
            f"{_share(shown.of_accepted)} of accepted",
            f"behind by {lags}",
        ]
    )


def table(shown: Figures) -> Group:
    """Everything, for a terminal of 80 columns."""
    rates = [
        ("webhooks/s", _text(shown.webhooks_per_second)),
        ("sends/s", _text(shown.sends_per_second)),
        ("joined/s", _text(shown.joined_per_second)),
        ("refused (503)", _text(shown.refused)),
        ("quarantined", _text(shown.quarantined)),
        *((f"{name} behind by", _text(lag)) for name, lag in shown.lags),
        ("database", _megabytes(shown.database_bytes)),
    ]
    outcomes = [(name, f"{count:,}") for name, count in shown.outcomes] or [("none yet", "")]
    latencies = [
        (each.stage, _seconds(each.median_seconds), _seconds(each.p95_seconds))
        for each in shown.latencies
    ]
    failures = [(f"{each.number:,}", each.code, each.words) for each in shown.failures]
    above = _grid("", ">", "outcome", ">messages")
    for rate, outcome in zip_longest(rates, outcomes, fillvalue=("", "")):
        above.add_row(*rate, *outcome)
    below = _grid("latency", ">p50", ">p95", ">failures", ">code", "")
    for latency, failure in zip_longest(latencies, failures, fillvalue=("", "", "")):
        below.add_row(*latency, *failure)
    return Group(above, Text(), Text(_rates(shown)), Text(), below)


def _rates(shown: Figures) -> str:
    return (
        f"delivered: {_share(shown.of_answered)} of those that got an answer, "
        f"{_share(shown.of_accepted)} of all that were accepted"
    )


def _grid(*headings: str) -> Table:
    """A heading that begins with > stands over figures. Words give way to figures for room."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        figure = heading.startswith(">")
        grid.add_column(
            heading.removeprefix(">"), justify="right" if figure else "left", no_wrap=figure
        )
    return grid


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def _megabytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 1_000_000:.1f} MB"
