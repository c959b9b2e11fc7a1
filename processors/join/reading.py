"""One pass over the facts of a lifecycle: what the decisions need to know of them.

Foreign facts are left out: their verified account is known, and is neither the send's nor one of
its parents. Without a send nothing is foreign.

Of a field that several facts know, the value is that of the first in the order of the set (read
and delivered, failures, the rest; then by bytes): a function of the set, and near to the outcome.

This is the hottest code of the joiner: plain loops, positional structs. Source: docs/rules.md 1.
"""

from __future__ import annotations

from msgspec import Struct

from processors.join.outcome import is_ahead
from processors.join.policy import Policy
from processors.join.statuses import RETRYING, word_of
from schemas.events import Fact
from schemas.lifecycle import Lifecycle
from schemas.numbers import SECOND_US


class Moment(Struct, frozen=True):
    """A time and the step of the clock that told it; ordered as time, then step."""

    at_us: int
    step_us: int


class Reading(Struct, frozen=True):
    """What the facts say together. ``facts`` are those that count."""

    facts: tuple[Fact, ...] = ()
    foreign: int = 0
    leading: Fact | None = None  # the first by precedence
    priced: Fact | None = None  # the first by precedence that carries a price
    submitted: Moment | None = None  # the earliest accepted, buffered or submitted
    delivered: Moment | None = None
    read: Moment | None = None
    # Of several segments that Vonage held back without telling their times.
    aggregated: bool = False
    failed: bool = False
    succeeded: bool = False
    retrying: bool = False
    mended: bool = False


NOTHING_READ = Reading()


def read_facts(lifecycle: Lifecycle, policy: Policy) -> Reading:
    """Total, and a function of the set and the policy."""
    facts = lifecycle.facts
    if not facts:
        return NOTHING_READ
    own = own_facts(lifecycle, policy)
    leading = priced = None
    lead_rank = price_rank = 99
    submitted = delivered = read = None
    aggregated = failed = succeeded = retrying = mended = False
    for fact in own:
        status = fact.status
        word = word_of(status)
        rank = word.rank
        if leading is None or is_ahead(fact, rank, leading, lead_rank):
            leading, lead_rank = fact, rank
        if fact.price_units is not None and (
            priced is None or is_ahead(fact, rank, priced, price_rank)
        ):
            priced, price_rank = fact, rank
        if word.is_start:
            submitted = _earlier(submitted, fact)
            retrying = retrying or (fact.code != "" and (status, fact.code) in RETRYING)
        elif word.is_success:
            succeeded = True
            if status == "read":
                read = _earlier(read, fact)
            elif fact.segments_detail is None and (fact.segments is None or fact.segments < 2):
                delivered = _earlier(delivered, fact)
            else:
                last = last_segment(fact)
                aggregated = aggregated or last is None
                delivered = _earlier(delivered, fact) if last is None else _first(delivered, last)
        elif word.is_failure:
            failed = True
        mended = mended or fact.mended
    return Reading(
        own, len(facts) - len(own), leading, priced, submitted, delivered, read, aggregated,
        failed, succeeded, retrying, mended,
    )  # fmt: skip


def own_facts(lifecycle: Lifecycle, policy: Policy) -> tuple[Fact, ...]:
    """Those that are not foreign; the tuple itself where all count, as nearly always."""
    send = lifecycle.send
    if send is None or send.account is None:
        return lifecycle.facts
    of_send = send.account
    for fact in lifecycle.facts:
        if fact.account not in ("", of_send) and policy.is_foreign(fact.account, of_send):
            break
    else:
        return lifecycle.facts
    return tuple(
        [f for f in lifecycle.facts if not (f.account and policy.is_foreign(f.account, of_send))]
    )


def last_segment(fact: Fact) -> Moment | None:
    """When the last SMS of a long message arrived; None where any of their times is not told.

    Receipts are one per part, so that only Messages statuses are held back.
    """
    detail = fact.segments_detail
    if fact.kind == "receipt":
        return moment_of(fact)
    if not detail or (fact.segments or 0) > len(detail):
        return None
    at_us = step_us = 0
    for segment in detail:
        if not segment.at_us:
            return None
        at_us = max(at_us, segment.at_us)
        step_us = max(step_us, segment.step_us)
    return Moment(at_us, step_us or SECOND_US)


def moment_of(fact: Fact) -> Moment | None:
    at_us = fact.provider_at_us
    return None if at_us is None else Moment(at_us, fact.provider_step_us or SECOND_US)


def _earlier(known: Moment | None, fact: Fact) -> Moment | None:
    at_us = fact.provider_at_us
    if at_us is None:
        return known
    return _first(known, Moment(at_us, fact.provider_step_us or SECOND_US))


def _first(known: Moment | None, other: Moment) -> Moment:
    if known is None or (other.at_us, other.step_us) < (known.at_us, known.step_us):
        return other
    return known
