"""What follows from a set of facts. A function of the set alone: never of order or arrival.

Precedence of outcomes, highest first; equal rank is told apart by time, then by bytes. Only the
status decides, never the code: ``delivered`` with code 1300 (a documented example) is delivered.

Source: RULES sections 3 to 5. Deadlines (``missing``, ``unconfirmed``, ``unanswered``) are not
derived yet: see docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from msgspec import Struct

from schemas.events import Fact, Send
from schemas.lifecycle import Lifecycle, Outcome, Summary
from schemas.numbers import SECOND_US

_T = TypeVar("_T")

# The rank of each status that a webhook may tell. What is not here is `unknown`.
_OUTCOME_OF_STATUS: dict[str, Outcome] = {
    "read": "read",
    "delivered": "delivered",
    "rejected": "rejected",
    "failed": "failed",
    "undeliverable": "undeliverable",
    "expired": "expired",
    "accepted": "pending",
    "buffered": "pending",
    "submitted": "pending",
}
PRECEDENCE: dict[Outcome, int] = {
    "read": 0,
    "delivered": 1,
    "rejected": 2,
    "failed": 2,
    "undeliverable": 2,
    "expired": 3,
    "revoked": 4,
    "refused": 5,
    "unanswered": 6,
    "unknown": 7,
    "unconfirmed": 8,
    "missing": 9,
    "pending": 10,
    "untracked": 11,
}
FINAL: frozenset[Outcome] = frozenset(
    {
        "read",
        "delivered",
        "rejected",
        "failed",
        "undeliverable",
        "expired",
        "revoked",
        "refused",
    }
)
_FAILURES = frozenset({"rejected", "failed", "undeliverable", "expired"})
_STARTS = frozenset({"accepted", "buffered", "submitted"})
_DELIVERED = frozenset({"delivered"})
_READ = frozenset({"read"})
# A retry by the carrier is under way: final word to come (RULES section 3).
_RETRYING = frozenset({("accepted", "7"), ("submitted", "1220")})
# Channels that are charged when handed over; the others when delivered (RULES section 5).
_CHARGED_AT_SUBMIT = frozenset({"sms", "mms"})
_UNKNOWN_TIME = 1 << 62


def outcome_of(status: str) -> Outcome:
    return _OUTCOME_OF_STATUS.get(status, "unknown")


def _rank(fact: Fact) -> tuple[int, int, str, str, str, str]:
    """Order of facts by outcome; among equals known time first, the later one, then bytes."""
    at_us = fact.provider_at_us
    later_first = _UNKNOWN_TIME if at_us is None else -at_us
    return (
        PRECEDENCE[outcome_of(fact.status)],
        later_first,
        fact.status,
        fact.code,
        fact.segment,
        fact.account,
    )


def _foreign(send: Send | None, fact: Fact) -> bool:
    """Whether a verified account other than the send's says this. Without a send nothing is."""
    return bool(send and send.account and fact.account and fact.account != send.account)


def summarise(lifecycle: Lifecycle, default_currency: str) -> Summary:
    """Total: no lifecycle raises. Facts of a foreign account stay in the set and are ignored."""
    send = lifecycle.send
    facts = [fact for fact in lifecycle.facts if not _foreign(send, fact)]
    ranked = sorted(facts, key=_rank)
    leading = ranked[0] if ranked else None
    outcome = _outcome(send, leading)
    api = send.api if send else _first(fact.api for fact in ranked)
    channel = (send.channel if send else None) or _first(fact.channel for fact in ranked)
    submitted = _earliest(facts, _STARTS)
    delivered = _earliest(facts, _DELIVERED)
    price = _price(send, ranked, _charged(outcome, channel), default_currency)
    arrivals = [fact.arrived_at_us for fact in lifecycle.facts]
    return Summary(
        outcome=outcome,
        is_final=outcome in FINAL,
        outcome_at_us=leading.provider_at_us if leading else None,
        api=api,
        channel=channel,
        account=(send.account if send else None) or _first(fact.account or None for fact in ranked),
        sender=(send.sender if send else None) or _first(fact.sender for fact in ranked),
        recipient=(send.recipient if send else None) or _first(fact.recipient for fact in ranked),
        client_ref=(send.client_ref if send else None)
        or _first(fact.client_ref for fact in ranked),
        network_estimated=send.network if send else None,
        network_final=_first(fact.network for fact in ranked),
        workflow_id=_first(fact.workflow_id for fact in ranked),
        segments=_first(fact.segments for fact in ranked),
        status_last=leading.status if leading else None,
        code=(leading.code if leading else send.answer_status if send and send.refused else None)
        or None,
        error_instance=leading.error_instance if leading else None,
        sent_at_us=(send.requested_at_us or send.arrived_at_us) if send else None,
        submitted_at_us=submitted[0] if submitted else None,
        delivered_at_us=delivered[0] if delivered else None,
        read_at_us=(_earliest(facts, _READ) or (None,))[0],
        carrier_latency_ms=_carrier_latency_ms(submitted, delivered),
        cost_units=price.units,
        currency=price.currency,
        currency_source=price.currency_source,
        cost_source=price.source,
        first_event_at_us=min(arrivals, default=None),
        last_event_at_us=max(arrivals, default=None),
        flags=_flags(lifecycle, facts, submitted, delivered),
    )


def _outcome(send: Send | None, leading: Fact | None) -> Outcome:
    if leading is not None:
        return outcome_of(leading.status)
    if send is not None and send.refused:
        return "refused"
    if send is not None and not send.receipt_expected:
        return "untracked"
    return "pending"


def _first(values: Iterable[_T | None]) -> _T | None:
    """The first known value, in the order of the facts' rank."""
    return next((value for value in values if value is not None), None)


def _earliest(facts: Iterable[Fact], statuses: frozenset[str]) -> tuple[int, int] | None:
    """The earliest provider time of these statuses, and the step of the clock that told it."""
    return min(
        (
            (fact.provider_at_us, fact.provider_step_us or SECOND_US)
            for fact in facts
            if fact.status in statuses and fact.provider_at_us is not None
        ),
        default=None,
    )


def _carrier_latency_ms(
    submitted: tuple[int, int] | None, delivered: tuple[int, int] | None
) -> int | None:
    """Both on Vonage's clock, compared at the coarser step; a negative one is clamped to 0."""
    if submitted is None or delivered is None:
        return None
    step_us = max(submitted[1], delivered[1])
    steps = delivered[0] // step_us - submitted[0] // step_us
    return max(0, steps * step_us // 1000)


def _charged(outcome: Outcome, channel: str | None) -> bool:
    """SMS and MMS count from submitted, failed ones too; others when delivered."""
    if outcome in ("refused", "untracked", "pending", "unanswered"):
        return outcome in ("pending", "untracked") and channel in _CHARGED_AT_SUBMIT
    return channel in _CHARGED_AT_SUBMIT or outcome in ("delivered", "read")


class _Price(Struct, frozen=True):
    units: int | None = None
    currency: str | None = None
    currency_source: Literal["field", "default"] | None = None
    source: Literal["event", "estimate"] | None = None


def _price(send: Send | None, ranked: list[Fact], charged: bool, default_currency: str) -> _Price:
    """One cost per message, never a sum over events: every receipt repeats the price."""
    if send is not None and send.refused and not ranked:
        return _Price(0, default_currency, "default", "event")
    priced: Fact | Send | None = next((f for f in ranked if f.price_units is not None), None)
    source: Literal["event", "estimate"] = "event"
    if priced is None and send is not None and send.price_units is not None:
        priced, source = send, "estimate"
    if priced is None or not charged:
        return _Price()
    if priced.currency is not None:
        return _Price(priced.price_units, priced.currency, "field", source)
    return _Price(priced.price_units, default_currency, "default", source)


def _flags(
    lifecycle: Lifecycle,
    facts: list[Fact],
    submitted: tuple[int, int] | None,
    delivered: tuple[int, int] | None,
) -> tuple[str, ...]:
    """Sorted, so that equal sets have equal bytes."""
    statuses = {fact.status for fact in facts}
    flags = []
    if submitted and delivered and delivered[0] < submitted[0]:
        flags.append("clock_skew")
    if statuses & _FAILURES and statuses & (_DELIVERED | _READ):
        flags.append("contradiction")
    if len(facts) < len(lifecycle.facts):
        flags.append("foreign_account")
    if any((fact.status, fact.code) in _RETRYING for fact in facts):
        flags.append("retrying")
    if lifecycle.truncated:
        flags.append("truncated")
    return tuple(flags)
