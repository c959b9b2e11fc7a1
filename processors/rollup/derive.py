"""What became of a send, from what became of its messages. A function of the set of parts.

Parts of one text:
1. open while any is, or while not all of them were seen;
2. delivered only if all are (read if all are read), partial if some are and none is open;
3. else the worst: the first by precedence, so that a failure shows before a silence.

Failover:
4. delivered (or read) if any item is; open while any item is;
5. else the outcome of the item with the highest number. Untried items count as nothing.

Cost is summed, per currency. Source: docs/rules.md 3 (Roll-up) and section 5.
"""

from __future__ import annotations

from collections.abc import Sequence

from processors.join.statuses import PRECEDENCE
from schemas.lifecycle import Outcome
from schemas.rollup import Part, Rollup, RollupOutcome, RollupSummary

_SUCCESS: frozenset[Outcome] = frozenset({"read", "delivered"})


def summarise(rollup: Rollup) -> RollupSummary:
    """Total: a rollup without parts, or of which all moved elsewhere or were erased, is pending."""
    parts = [item.part for item in rollup.items if not (item.part.moved or item.part.erased)]
    expected = _expected(rollup, parts)
    if rollup.kind == "failover":
        outcome, decided = _failover(parts)
    else:
        outcome, decided = _parts(parts, expected)
    is_open = outcome == "pending"
    first = decided or min(parts, key=_attempt, default=None)
    worst = _worst(parts)
    return RollupSummary(
        outcome=outcome,
        is_final=not is_open and all(part.is_final for part in ([decided] if decided else parts)),
        is_open=is_open,
        outcome_at_us=None if is_open else _outcome_at(parts, decided),
        known=len(parts),
        expected=expected,
        delivered=len([part for part in parts if part.outcome in _SUCCESS]),
        decided_by=decided.message_id if decided else None,
        worst=worst.outcome if worst else None,
        last_delivered_at_us=_greatest([part.delivered_at_us for part in parts]),
        slowest_carrier_latency_ms=_greatest([part.carrier_latency_ms for part in parts]),
        sent_at_us=min([p.sent_at_us for p in parts if p.sent_at_us is not None], default=None),
        costs=_costs(parts),
        api=first.api if first else None,
        channel=first.channel if first else None,
        account=next((part.account for part in parts if part.account), None),
        traffic="test" if any(part.traffic == "test" for part in parts) else "live",
        truncated=rollup.truncated,
    )


def _parts(parts: Sequence[Part], expected: int | None) -> tuple[RollupOutcome, Part | None]:
    if not parts or len(parts) < (expected or 0) or any(part.is_open for part in parts):
        return "pending", None
    arrived = [part for part in parts if part.outcome in _SUCCESS]
    if len(arrived) == len(parts):
        return "read" if all(part.outcome == "read" for part in parts) else "delivered", None
    if arrived:
        return "partial", None
    worst = _worst(parts)
    assert worst is not None
    return worst.outcome, worst


def _failover(parts: Sequence[Part]) -> tuple[RollupOutcome, Part | None]:
    arrived = [part for part in parts if part.outcome in _SUCCESS]
    if arrived:
        first = min(arrived, key=_badness)
        return first.outcome, first
    if not parts or any(part.is_open for part in parts):
        return "pending", None
    last = max(parts, key=_attempt)
    return last.outcome, last


def _expected(rollup: Rollup, parts: Sequence[Part]) -> int | None:
    """How many parts there are. A workflow's items need not all be tried."""
    if rollup.kind == "failover":
        return None
    total = _greatest([part.total for part in parts])
    erased = len([item for item in rollup.items if item.part.erased])
    return None if total is None else total - erased


def _worst(parts: Sequence[Part]) -> Part | None:
    """A failure before a silence, and any of them before a success."""
    failing = [part for part in parts if part.outcome not in _SUCCESS]
    return min(failing or parts, key=_badness, default=None)


def _badness(part: Part) -> tuple[int, int, str]:
    """By precedence below delivered; among equals the later one, then by id."""
    rank = PRECEDENCE[part.outcome]
    return rank, -(part.outcome_at_us or 0), part.message_id


def _attempt(part: Part) -> tuple[int, str]:
    return part.number or 0, part.message_id


def _outcome_at(parts: Sequence[Part], decided: Part | None) -> int | None:
    """Of the deciding message; where all decide together, of the last."""
    if decided is not None:
        return decided.outcome_at_us
    return _greatest([part.outcome_at_us for part in parts])


def _greatest(values: Sequence[int | None]) -> int | None:
    return max([value for value in values if value is not None], default=None)


def _costs(parts: Sequence[Part]) -> tuple[tuple[str, int], ...]:
    sums: dict[str, int] = {}
    for part in parts:
        if part.cost_units is not None and part.currency is not None:
            sums[part.currency] = sums.get(part.currency, 0) + part.cost_units
    return tuple(sorted(sums.items()))
