"""What a replay did, for people and for programs. Pure."""

from __future__ import annotations

import msgspec

from sendtrace.replay.run import Report


def as_json(report: Report) -> str:
    """Of each reason: put through, put through earlier, and left, by why."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2).decode()


def as_text(report: Report) -> str:
    """A line for each reason, and where the records went."""
    looked_at = f"{report.looked_at:,} records in quarantine"
    if not report.reasons:
        return looked_at
    heading = ("reason", "replayed", "earlier", "left", "why left")
    rows = [
        (
            reason,
            f"{counts.replayed:,}",
            f"{counts.earlier:,}",
            f"{counts.left.total():,}",
            "; ".join(sorted(counts.left)),
        )
        for reason, counts in sorted(report.reasons.items())
    ]
    widths = [max(len(row[at]) for row in (heading, *rows)) for at in range(4)]
    lines = [looked_at, ""]
    for reason, replayed, earlier, left, why in (heading, *rows):
        figures = (
            f"{figure:>{width}}"
            for figure, width in zip((replayed, earlier, left), widths[1:], strict=True)
        )
        lines.append("  ".join([f"{reason:<{widths[0]}}", *figures, why]).rstrip())
    would = "would be " if report.dry_run else ""
    went = ", ".join(f"{number:,} to {topic}" for topic, number in sorted(report.topics.items()))
    lines += ["", f"{would}put through again: {went or 'nothing'}"]
    return "\n".join(lines)
