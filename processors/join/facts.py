"""The union of facts: what one message is known to have gone through, in any order.

1. A lifecycle is a set of facts. Two facts are the same fact if their identity is equal: kind,
   status, code, segment, verified account. Times are not part of it, since Vonage may change them
   between its attempts; nor is the API version, since one message may get both.
2. Fields of equal facts merge one by one: known beats unknown; the rest by minimum (times: the
   earlier; text: the first in byte order). Never by which came first.
3. So union is commutative, associative and idempotent: any order of the same events, with any
   repetition, gives the same bytes. A property test holds that.
4. At most 64 facts are kept: the first by (class, status, code, segment, account), a fixed order
   that knows nothing of time. ``truncated`` is sticky.

Source: RULES section 1.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import asdict, replace

from schemas.events import Fact, Send
from schemas.lifecycle import Lifecycle
from schemas.numbers import SECOND_US

MAX_FACTS = 64

# Class rank: what must survive the bound first.
_FIRST = frozenset({"read", "delivered"})
_SECOND = frozenset({"rejected", "failed", "undeliverable", "expired", "revoked"})

identity = attrgetter("kind", "status", "code", "segment", "account")
_T = TypeVar("_T", Fact, Send)


def _order(fact: Fact) -> tuple[int, str, str, str, str, str]:
    rank = 0 if fact.status in _FIRST else 1 if fact.status in _SECOND else 2
    return rank, fact.status, fact.code, fact.segment, fact.account, fact.kind


def empty(message_id: str) -> Lifecycle:
    return Lifecycle(message_id=message_id)


def with_fact(lifecycle: Lifecycle, fact: Fact) -> Lifecycle:
    """The union with one fact. Answers ``lifecycle`` itself when nothing new is in it."""
    for index, known in enumerate(lifecycle.facts):
        if known == fact:
            return lifecycle
        if identity(known) == identity(fact):
            merged = _merge_fact(known, fact)
            if merged == known:
                return lifecycle
            facts = (*lifecycle.facts[:index], merged, *lifecycle.facts[index + 1 :])
            return replace(lifecycle, facts=facts, summary=None)
    facts = tuple(sorted((*lifecycle.facts, fact), key=_order))
    if len(facts) <= MAX_FACTS:
        return replace(lifecycle, facts=facts, summary=None)
    kept = facts[:MAX_FACTS]
    if kept == lifecycle.facts and lifecycle.truncated:
        return lifecycle
    return replace(lifecycle, facts=kept, truncated=True, summary=None)


def with_send(lifecycle: Lifecycle, send: Send) -> Lifecycle:
    """The union with the send. A repeat changes nothing; two that differ merge field by field."""
    if lifecycle.send is None:
        return replace(lifecycle, send=send, summary=None)
    merged = _merge_fields(lifecycle.send, send)
    return lifecycle if merged == lifecycle.send else replace(lifecycle, send=merged, summary=None)


def union(one: Lifecycle, other: Lifecycle) -> Lifecycle:
    """The union of two lifecycles of one message. The engine adds facts; tests use this."""
    result = one
    if other.send is not None:
        result = with_send(result, other.send)
    for fact in other.facts:
        result = with_fact(result, fact)
    if other.truncated and not result.truncated:
        result = replace(result, truncated=True, summary=None)
    return result


def _merge_fact(one: Fact, other: Fact) -> Fact:
    merged = _merge_fields(one, other)
    # A clock's step belongs to the time that it told: the pair merges as one.
    clocks = [
        (fact.provider_at_us, fact.provider_step_us or SECOND_US)
        for fact in (one, other)
        if fact.provider_at_us is not None
    ]
    if not clocks:
        return merged
    at_us, step_us = min(clocks)
    return replace(merged, provider_at_us=at_us, provider_step_us=step_us)


def _merge_fields(one: _T, other: _T) -> _T:
    changes = {
        name: _lesser(mine, theirs)
        for (name, mine), theirs in zip(_fields(one), _values(other), strict=True)
        if mine != theirs
    }
    return replace(one, **changes)


def _fields(struct: Struct) -> list[tuple[str, object]]:
    return list(asdict(struct).items())


def _values(struct: Struct) -> list[object]:
    return list(asdict(struct).values())


def _lesser(mine: object, theirs: object) -> object:
    """Known beats unknown; markers by maximum; else the minimum (of text: in code point order)."""
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    if isinstance(mine, bool):
        return mine or theirs
    return min(mine, theirs)  # type: ignore[call-overload]  # one field has one type
