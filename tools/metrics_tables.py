"""Prints the tables of docs/metrics.md; ``--write`` puts them there.

python tools/metrics_tables.py --write
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from processors.store import Drops
from schemas.metrics import CATALOGUE, Metric, withdrawn
from sendtrace.runtime.loop import LoopMetrics
from sinks.families import PREFIX, Progress, ProgressCollector
from sinks.loader import LoaderMetrics
from sinks.sums import Sums

DOCUMENT = Path(__file__).parents[1] / "docs/metrics.md"


def names_of(metric: Metric) -> list[str]:
    if metric.kind == "histogram":
        return [f"{PREFIX}{metric.name}_seconds"]
    twins = [metric.name, withdrawn(metric.name)] if metric.withdrawable else [metric.name]
    return [f"{PREFIX}{name}_total" for name in twins]


def catalogue() -> Iterator[str]:
    yield "| metric | labels | meaning |"
    yield "|---|---|---|"
    for metric in CATALOGUE:
        names = "<br>".join(f"`{name}`" for name in names_of(metric))
        yield f"| {names} | {', '.join(metric.labels)} | {metric.help} |"


def of_processes() -> Iterator[str]:
    """What joiner, rollup, loader and exporter tell about themselves; the edge has its own page."""
    yield "| metric | kind | meaning |"
    yield "|---|---|---|"
    registry = CollectorRegistry()
    LoopMetrics(registry)
    Drops(registry)
    LoaderMetrics(registry)
    registry.register(ProgressCollector(Progress(), Sums()))
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield f"| `{name}` | {family.type} | {family.documentation} |"


def tables() -> dict[str, str]:
    return {
        "catalogue": "\n".join(catalogue()) + "\n",
        "processes": "\n".join(of_processes()) + "\n",
    }


def with_tables(text: str) -> str:
    """The document with each table between its two marks."""
    for name, table in tables().items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not (begin and end):
            raise SystemExit(f"docs/metrics.md has no marks for the table `{name}`")
        text = before + begin + table + end + after
    return text


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    else:
        sys.stdout.write("\n".join(tables().values()))
