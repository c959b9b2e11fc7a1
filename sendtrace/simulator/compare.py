"""The ledger against what the pipeline says: every difference as a sentence. Pure.

``seen`` has the names of the lifecycle's summary, whoever it comes from: a topic, a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sendtrace.simulator.ledger import Fact, Message, Rollup, RollupStanding, Standing

# Told by the message, whatever its standing.
_FIELDS = (
    "api", "channel", "account", "country", "workflow_id", "part", "parts", "carrier_latency_ms",
    "deliver_latency_ms", "accept_latency_ms", "read_latency_ms",
)  # fmt: skip


def message_differences(
    expected: Message, standings: Sequence[Standing], seen: Mapping[str, object]
) -> list[str]:
    """Nothing, if it is as expected in one of ``standings``; else how it differs from the last."""
    found = [
        _sentence(name, getattr(expected, name), seen.get(name))
        for name in _FIELDS
        if getattr(expected, name) != seen.get(name)
    ]
    network = seen.get("network_final") or seen.get("network_estimated")
    if network != expected.network:
        found.append(_sentence("network", expected.network, network))
    told: list[str] = []
    for standing in standings:
        told = _standing_differences(standing, seen)
        if not told:
            break
    return found + told


def fact_differences(expected: Message, seen: Iterable[Fact]) -> list[str]:
    """Of the distinct facts, as (status, code)."""
    facts = tuple(sorted(set(seen)))
    return [] if facts == expected.facts else [_sentence("facts", expected.facts, facts)]


def rollup_differences(
    expected: Rollup, standings: Sequence[RollupStanding], seen: Mapping[str, object]
) -> list[str]:
    """Nothing, if it is as expected in one of ``standings``; else how it differs from the last."""
    found: list[str] = []
    for standing in standings:
        found = _rollup_standing_differences(standing, seen)
        if not found:
            break
    if seen.get("kind") != expected.kind:
        found.append(_sentence("kind", expected.kind, seen.get("kind")))
    if seen.get("known") != len(expected.message_ids):
        found.append(_sentence("known", len(expected.message_ids), seen.get("known")))
    return found


def _standing_differences(expected: Standing, seen: Mapping[str, object]) -> list[str]:
    found = [
        _sentence(name, getattr(expected, name), seen.get(name))
        for name in ("outcome", "is_final", "code", "cost_units", "currency")
        if getattr(expected, name) != seen.get(name)
    ]
    # Who says so is not asked of what costs nothing.
    if expected.cost_units and expected.cost_source != seen.get("cost_source"):
        found.append(_sentence("cost_source", expected.cost_source, seen.get("cost_source")))
    flags = seen.get("flags")
    assert isinstance(flags, list | tuple), flags
    must, may = set(expected.flags), set(expected.possible)
    if not must <= set(flags) <= must | may:
        found.append(_sentence("flags", sorted(must), sorted(flags)))
    return found


def _rollup_standing_differences(expected: RollupStanding, seen: Mapping[str, object]) -> list[str]:
    found = []
    if seen.get("outcome") not in (expected.outcome, *expected.also):
        found.append(_sentence("outcome", expected.outcome, seen.get("outcome")))
    if seen.get("delivered") != expected.delivered:
        found.append(_sentence("delivered", expected.delivered, seen.get("delivered")))
    costs = seen.get("costs")
    assert isinstance(costs, list | tuple), costs
    if tuple(map(tuple, costs)) != expected.costs:
        found.append(_sentence("costs", expected.costs, costs))
    return found


def _sentence(name: str, expected: object, seen: object) -> str:
    return f"{name} is {seen!r}, not {expected!r}"
