"""Equal facts, field by field: which value stays when two records tell the same thing.

1. Known beats unknown.
2. Of times and arrivals the earlier; of markers the set one; of anything else the first in a fixed
   order. Never the one that came first.
3. A time and the step of its clock are one value, and so are a send's two times and their clock
   (ours before the client's).
4. Segments merge one by one, by index.

Each rule is commutative, associative and idempotent, so their product is. Source: docs/rules.md 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, TypeVar

from msgspec.structs import replace

from schemas.events import Fact, Segment, Send
from schemas.numbers import SECOND_US

_T = TypeVar("_T", Fact, Send)

IDENTITY = ("kind", "status", "code", "segment", "account")
_FACT_TOGETHER = ("provider_at_us", "provider_step_us", "segments_detail")
_SEND_TOGETHER = ("requested_at_us", "answered_at_us", "clock")
# True is what is assumed where nobody says; that no receipt was asked for is what is known.
_UNSET = frozenset({"receipt_expected"})

_FACT_FIELDS = tuple(
    name for name in Fact.__struct_fields__ if name not in IDENTITY and name not in _FACT_TOGETHER
)
_SEND_FIELDS = tuple(name for name in Send.__struct_fields__ if name not in _SEND_TOGETHER)
_fact_values = attrgetter(*_FACT_FIELDS)
_send_values = attrgetter(*_SEND_FIELDS)
_fact_together = attrgetter(*_FACT_TOGETHER)
_send_together = attrgetter(*_SEND_TOGETHER)


def merge_facts(one: Fact, other: Fact) -> Fact:
    """Two facts of one identity. Answers ``one`` itself where the other adds nothing."""
    changes = _differences(_FACT_FIELDS, _fact_values(one), _fact_values(other))
    if _fact_together(one) != _fact_together(other):
        changes |= _merge_clock(one, other)
        changes["segments_detail"] = _merge_segments(one.segments_detail, other.segments_detail)
    return _changed(one, changes)


def merge_sends(one: Send, other: Send) -> Send:
    """Two records of one send. Answers ``one`` itself where the other adds nothing."""
    changes = _differences(_SEND_FIELDS, _send_values(one), _send_values(other))
    if _send_together(one) != _send_together(other):
        changes |= _merge_times(one, other)
    return _changed(one, changes)


def _changed(one: _T, changes: Mapping[str, Any]) -> _T:
    for name, value in changes.items():
        if getattr(one, name) != value:
            return replace(one, **changes)
    return one


def _differences(
    names: tuple[str, ...], mine: tuple[Any, ...], theirs: tuple[Any, ...]
) -> dict[str, Any]:
    if mine == theirs:
        return {}
    changes = {}
    for name, one, other in zip(names, mine, theirs, strict=True):
        if one != other:
            changes[name] = _better(name, one, other)
    return changes


def _better(name: str, one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if type(one) is bool:
        return name not in _UNSET  # they differ
    return one if one < other else other


def _merge_clock(one: Fact, other: Fact) -> dict[str, Any]:
    """The earlier of two times, with the step of the clock that told it."""
    if one.provider_at_us is None or other.provider_at_us is None:
        told = other if one.provider_at_us is None else one
        if told.provider_at_us is None:
            return {"provider_step_us": _better("", one.provider_step_us, other.provider_step_us)}
        return {"provider_at_us": told.provider_at_us, "provider_step_us": told.provider_step_us}
    first = min(one, other, key=_clock_order)
    return {"provider_at_us": first.provider_at_us, "provider_step_us": first.provider_step_us}


def _clock_order(fact: Fact) -> tuple[int, int, bool]:
    assert fact.provider_at_us is not None
    step_us = fact.provider_step_us
    return fact.provider_at_us, step_us or SECOND_US, step_us is None


def _merge_times(one: Send, other: Send) -> dict[str, Any]:
    """Ours before the client's: times of two clocks are never paired."""
    if one.clock != other.clock and "ours" in (one.clock, other.clock):
        ours = one if one.clock == "ours" else other
        return {name: getattr(ours, name) for name in _SEND_TOGETHER}
    return {
        name: _better(name, getattr(one, name), getattr(other, name)) for name in _SEND_TOGETHER
    }


def _merge_segments(
    one: tuple[Segment, ...] | None, other: tuple[Segment, ...] | None
) -> tuple[Segment, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    if len(one) < len(other):
        one, other = other, one
    merged = [_merge_segment(a, b) for a, b in zip(one, other, strict=False)]
    return (*merged, *one[len(other) :])


def _merge_segment(one: Segment, other: Segment) -> Segment:
    """Empty and 0 are unknown."""
    if one.status and other.status:
        status = min(one.status, other.status)
    else:
        status = one.status or other.status
    if one.at_us and other.at_us:
        at_us, step_us = min((one.at_us, one.step_us), (other.at_us, other.step_us))
    else:
        at_us, step_us = max((one.at_us, one.step_us), (other.at_us, other.step_us))
    return Segment(status, at_us, step_us)
