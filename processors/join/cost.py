"""What a message cost: one price per message, never a sum over its events.

1. Every receipt repeats the price, and usage repeats on submitted, delivered and read. So of the
   facts that carry one, it is the price of the first by precedence; else the answer's, an estimate.
2. SMS and MMS are charged when handed over, failed ones too; other channels when delivered.
3. Refused costs 0, and so does a v0.1 send whose ttl ran out in silence (code 1360 [C]).
   Unanswered: nobody knows.
4. Never multiplied by segments [U: whether usage.price is per message or per segment].
5. Receipts have no currency: the account's default, and ``currency_source`` says so.

Source: docs/rules.md 5.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from processors.join.policy import Policy
from processors.join.reading import Reading
from schemas.events import Fact, Send
from schemas.lifecycle import Outcome

CHARGED_AT_SUBMIT = frozenset({"sms", "mms"})
_FREE: frozenset[Outcome] = frozenset({"refused"})
_NOBODY_KNOWS: frozenset[Outcome] = frozenset({"unanswered"})
_SUCCESS: frozenset[Outcome] = frozenset({"read", "delivered"})


class Cost(Struct, frozen=True):
    """Units of 1e-8 of the currency."""

    cost_units: int | None = None
    currency: str | None = None
    currency_source: Literal["field", "default"] | None = None
    cost_source: Literal["event", "estimate"] | None = None


UNKNOWN_COST = Cost()


def cost_of(
    outcome: Outcome,
    channel: str | None,
    account: str | None,
    send: Send | None,
    seen: Reading,
    policy: Policy,
) -> Cost:
    """Total."""
    if outcome in _FREE or (outcome == "expired" and seen.leading is None):
        return Cost(0, _default_currency(account, policy), "default", "event")
    if outcome in _NOBODY_KNOWS:
        return UNKNOWN_COST
    if channel not in CHARGED_AT_SUBMIT and outcome not in _SUCCESS:
        return UNKNOWN_COST
    priced: Fact | Send | None = seen.priced
    source: Literal["event", "estimate"] = "event"
    if priced is None:
        if send is None or send.price_units is None:
            return UNKNOWN_COST
        priced, source = send, "estimate"
    if priced.currency is not None:
        return Cost(priced.price_units, priced.currency, "field", source)
    return Cost(priced.price_units, _default_currency(account, policy), "default", source)


def _default_currency(account: str | None, policy: Policy) -> str:
    if account is None or not policy.currencies:
        return policy.default_currency
    return policy.currencies.get(account, policy.default_currency)
