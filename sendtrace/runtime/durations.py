"""Durations as people write them: ``500ms``, ``30s``, ``5m``, ``1h``."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_written = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", re.ASCII).fullmatch


def seconds_of(text: str) -> float:
    """Seconds, where no unit is said. Raises ValueError with a sentence."""
    found = _written(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration: write 30s, 5m or 1h")
    seconds = float(found[1]) * _UNITS[found[2] or "s"]
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{text!r} is not longer than nothing")
    return seconds
