"""The union of facts: what one message is known to have gone through, in any order.

1. A lifecycle is a set of facts. Two facts are the same fact if their identity is equal: kind,
   status, code, segment, verified account. Times are not part of it, since Vonage may change them
   between its attempts; nor is the API version, since one message may get both. There is one send,
   one revocation request, one erase, and one overdue fact per kind of deadline.
2. Fields of equal facts merge one by one (merge.py), never by which came first.
3. At most 64 facts are kept: the first by (class, status, code, segment, account), a fixed order
   that knows nothing of time. ``truncated`` is sticky.
4. Normal form: a final status removes every overdue fact; any status or receipt removes the
   warning that nothing came, the send removes the warning that there is none. A foreign account's
   status counts here too: whose it is depends on the send, and union must not.
5. An erase beats all: only the id and the time of the erasure stay, whatever comes later.

So union is commutative, associative and idempotent: any order of the same events, with any
repetition, gives the same bytes. Property tests hold that. Source: docs/rules.md 1.
"""

from __future__ import annotations

from operator import attrgetter

from msgspec.structs import replace

from processors.join.merge import IDENTITY, merge_facts, merge_sends
from processors.join.statuses import word_of
from schemas.events import Erase, Event, Fact, Revoke, Send
from schemas.lifecycle import Lifecycle, Overdue

MAX_FACTS = 64

identity = attrgetter(*IDENTITY)


def _order(fact: Fact) -> tuple[int, str, str, str, str, str]:
    return (
        word_of(fact.status).kept,
        fact.status,
        fact.code,
        fact.segment,
        fact.account,
        fact.kind,
    )


def empty(message_id: str) -> Lifecycle:
    return Lifecycle(message_id=message_id)


def is_empty(lifecycle: Lifecycle) -> bool:
    """Whether nothing was ever heard of it, or nothing since it was forgotten."""
    return (
        lifecycle.send is None
        and not lifecycle.facts
        and not lifecycle.overdue
        and lifecycle.revoke_requested_at_us is None
        and lifecycle.erased_at_us is None
    )


def joined(lifecycle: Lifecycle, event: Event | Send | Revoke | Erase) -> Lifecycle:
    """The union with what one input record says. Answers ``lifecycle`` itself when it is known."""
    match event:
        case Event():
            return with_fact(lifecycle, event.fact)
        case Send():
            return with_send(lifecycle, event)
        case Revoke():
            return with_revoke_requested(lifecycle, event.arrived_at_us)
        case Erase():
            return with_erase(lifecycle, event.arrived_at_us)


def with_fact(lifecycle: Lifecycle, fact: Fact) -> Lifecycle:
    """The union with one fact. Answers ``lifecycle`` itself when nothing new is in it."""
    if lifecycle.erased:
        return lifecycle
    known = lifecycle.facts
    for index, mine in enumerate(known):
        # Most differ by status: cheaper to see than two whole identities.
        if mine.status == fact.status and identity(mine) == identity(fact):
            merged = merge_facts(mine, fact)
            if merged is mine:
                return lifecycle
            facts = (*known[:index], merged, *known[index + 1 :])
            return replace(lifecycle, facts=facts, summary=None)
    facts = tuple(sorted((*known, fact), key=_order)) if known else (fact,)
    if len(facts) <= MAX_FACTS:
        return _with_facts(lifecycle, facts, lifecycle.truncated)
    kept = facts[:MAX_FACTS]
    if kept == known and lifecycle.truncated:
        return lifecycle
    return _with_facts(lifecycle, kept, True)


def with_send(lifecycle: Lifecycle, send: Send) -> Lifecycle:
    """The union with the send. A repeat changes nothing; two that differ merge field by field."""
    if lifecycle.erased:
        return lifecycle
    if lifecycle.send is None:
        overdue = _standing(lifecycle.overdue, lifecycle.facts, send)
        return replace(lifecycle, send=send, overdue=overdue, summary=None)
    merged = merge_sends(lifecycle.send, send)
    if merged is lifecycle.send:
        return lifecycle
    return replace(lifecycle, send=merged, summary=None)


def with_overdue(lifecycle: Lifecycle, overdue: Overdue) -> Lifecycle:
    """The union with a deadline that went by. Of one kind the earlier time stays."""
    if lifecycle.erased:
        return lifecycle
    of_kind = {known.kind: known for known in lifecycle.overdue}
    known = of_kind.get(overdue.kind)
    if known is None or overdue.at_us < known.at_us:
        of_kind[overdue.kind] = overdue
    facts = tuple(of_kind[kind] for kind in sorted(of_kind))
    standing = _standing(facts, lifecycle.facts, lifecycle.send)
    if standing == lifecycle.overdue:
        return lifecycle
    return replace(lifecycle, overdue=standing, summary=None)


def with_revoke_requested(lifecycle: Lifecycle, at_us: int) -> Lifecycle:
    """The union with a request to take the message back; of several the earliest stays."""
    known = lifecycle.revoke_requested_at_us
    if lifecycle.erased or (known is not None and known <= at_us):
        return lifecycle
    return replace(lifecycle, revoke_requested_at_us=at_us, summary=None)


def with_erase(lifecycle: Lifecycle, at_us: int) -> Lifecycle:
    """Forgets everything but the id. Of several erasures the earliest time stays."""
    known = lifecycle.erased_at_us
    if known is not None and known <= at_us:
        return lifecycle
    return Lifecycle(message_id=lifecycle.message_id, erased=True, erased_at_us=at_us)


def union(one: Lifecycle, other: Lifecycle) -> Lifecycle:
    """The union of two lifecycles of one message. The engine adds facts; tests use this."""
    if other.erased_at_us is not None:
        return with_erase(one, other.erased_at_us)
    result = one if other.send is None else with_send(one, other.send)
    for fact in other.facts:
        result = with_fact(result, fact)
    for overdue in other.overdue:
        result = with_overdue(result, overdue)
    if other.revoke_requested_at_us is not None:
        result = with_revoke_requested(result, other.revoke_requested_at_us)
    if other.truncated and not (result.truncated or result.erased):
        result = replace(result, truncated=True, summary=None)
    if other.fragment and not (result.fragment or result.erased):
        result = replace(result, fragment=True, summary=None)
    return result


def _with_facts(lifecycle: Lifecycle, facts: tuple[Fact, ...], truncated: bool) -> Lifecycle:
    overdue = _standing(lifecycle.overdue, facts, lifecycle.send)
    return replace(lifecycle, facts=facts, overdue=overdue, truncated=truncated, summary=None)


def _standing(
    overdue: tuple[Overdue, ...], facts: tuple[Fact, ...], send: Send | None
) -> tuple[Overdue, ...]:
    """The overdue facts that hold beside the others: rule 4."""
    if not overdue:
        return overdue
    for fact in facts:
        if word_of(fact.status).is_final:
            return ()
    return tuple(
        [
            known
            for known in overdue
            if not (known.kind == "no_first_event" and facts)
            and not (known.kind == "no_send" and send is not None)
        ]
    )
