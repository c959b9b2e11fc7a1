"""A run as a table, and as the block that docs/reliability.md shows. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaos.driver import Done, Outcome


@dataclass(frozen=True)
class Row:
    """All faults of one name. ``restored``: tasks that were restored without a start."""

    name: str
    injected: int
    seen: int
    kills: int
    restored: int
    median_seconds: float
    longest_seconds: float


def rows(done: Sequence[Done]) -> Iterator[Row]:
    for name in sorted({each.fault.kind for each in done}):
        same = [each for each in done if each.fault.kind == name]
        took = [each.recovery_seconds for each in same]
        yield Row(
            name,
            len(same),
            sum(each.seen for each in same),
            sum(each.kills for each in same),
            sum(each.restored for each in same),
            statistics.median(took),
            max(took),
        )


def markdown(outcome: Outcome) -> str:
    """For a person and for the page."""
    lines = [
        "| fault | injected | observed | kills | restored | back, median | back, longest |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row.name} | {row.injected} | {row.seen} | {row.kills} | {row.restored} "
            f"| {row.median_seconds:.1f} s | {row.longest_seconds:.1f} s |"
            for row in rows(outcome.done)
        ),
    ]
    return "\n".join([*lines, "", *_sums(outcome)])


def _sums(outcome: Outcome) -> Iterator[str]:
    counted, report = outcome.sums, outcome.report
    ended = Counter(part for each in outcome.done for part in each.restarted)
    parts = ", ".join(f"{part} {times}" for part, times in sorted(ended.items()))
    yield (
        f"{len(outcome.done)} faults ({sum(each.is_alone for each in outcome.done)} alone, the "
        f"others several at once), {outcome.kills} kills in {outcome.seconds / 60:.0f} minutes "
        f"on {outcome.brokers} brokers (seed {outcome.seed}). Ended by themselves and started "
        f"again: {parts or 'none'}."
    )
    lost = len(counted.lost) + counted.skipped
    doubled = len(counted.doubled) + counted.recounted
    yield (
        f"{counted.requests:,} requests, {counted.answered:,} of them answered 200; "
        f"{counted.records:,} records in Kafka: {lost} lost, {doubled} doubled, "
        f"{len(counted.unasked)} that nobody sent. "
        f"{counted.aside:,} put aside, as they must be (quarantine, another partition); "
        f"{len(counted.astray)} wrongly or not."
    )
    yield (
        f"{outcome.complete:,} messages told to their end, {outcome.cut_short:,} cut short by the "
        f"end of the run; `sendtrace verify`: {len(report.differences)} differences."
    )
    for each in report.differences[:10]:
        yield f"- {each.where}, {each.key}: {each.sentence}"
