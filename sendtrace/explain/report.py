"""The explanation, laid out for a person or as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sendtrace.explain.words import Told


def as_json(told: Told) -> str:
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode()


def as_text(told: Told) -> str:
    """Headline and reason first, then what happened, then what it was."""
    lines = [f"{told.message_id}: {told.headline}", *_indented([told.why])]
    lines += _indented(told.candidates)
    if told.timeline:
        lines += ["", "What happened (by arrival here, UTC)"]
        for line in told.timeline:
            mark = "*" if line.decided else " "
            at = (line.at or "time not known").removesuffix(" UTC")
            lines.append(f"{mark} {at:<23}  {line.what}")
            if line.provider_at is not None:
                told_at = line.provider_at.removesuffix(" UTC")
                lines.append(f"  {'':<23}  by Vonage's clock {told_at}")
        if any(line.decided for line in told.timeline):
            lines.append("  (* decided the outcome)")
        lines += _indented([told.next])
    if told.cost:
        lines += ["", f"Cost: {told.cost}"]
    for title, pairs in (
        ("How long it took", told.latencies),
        ("What is unusual", told.flags),
        ("About it", told.about),
    ):
        if pairs:
            width = max(map(len, pairs))
            lines += ["", title]
            lines += _indented(f"{name:<{width}}  {text}" for name, text in pairs.items())
    lines += ["", f"(from the {told.source})"]
    return "\n".join(lines)


def _indented(texts: Iterable[str]) -> list[str]:
    return [f"  {text}" for text in texts if text]
