"""What follows from a set of facts: a function of the set and the policy, never of order.

The decisions stand one to a file, each with its table: which facts count (reading.py), whose
message it is (known.py), the outcome (outcome.py over statuses.py), code and category (codes.py),
latencies (latency.py), cost (cost.py), flags (flags.py). Here they become one summary.

Source: docs/rules.md 3 to 5 and 7.
"""

from __future__ import annotations

from functools import lru_cache

from processors.join.codes import code_of
from processors.join.cost import cost_of
from processors.join.flags import flags_of, is_late
from processors.join.known import known_of
from processors.join.latency import latencies
from processors.join.outcome import is_open_after, outcome_of, receipt_expected
from processors.join.policy import Policy
from processors.join.reading import Moment, Reading, read_facts
from processors.join.statuses import FINAL, PRECEDENCE
from schemas.events import Fact, Send
from schemas.lifecycle import Clock, Lifecycle, Outcome, Summary
from schemas.phones import country_of

# A message's numbers are read again with each of its events; 1 us each time otherwise.
_country_of = lru_cache(8_192)(country_of)

__all__ = ["FINAL", "PRECEDENCE", "summarise"]

_BY_DEADLINE: frozenset[Outcome] = frozenset({"expired", "missing", "unconfirmed", "revoked"})


def summarise(lifecycle: Lifecycle, policy: Policy) -> Summary | None:
    """Total: no lifecycle raises. None: it was erased, and nothing follows from nothing."""
    if lifecycle.erased:
        return None
    return _summary(lifecycle, lifecycle.send, read_facts(lifecycle, policy), policy)


def _summary(lifecycle: Lifecycle, send: Send | None, seen: Reading, policy: Policy) -> Summary:
    """Built by position, in the order of Summary's fields: see there. A test holds the names."""
    leading = seen.leading
    outcome = outcome_of(lifecycle, seen.facts, leading, policy)
    is_final = outcome in FINAL
    is_open = not is_final and is_open_after(outcome, lifecycle)
    outcome_at_us, outcome_clock = _decided(lifecycle, outcome, leading)
    status_last = error_instance = None
    if leading is not None:
        status_last, error_instance = leading.status, leading.error_instance
    code, category, code_known = code_of(outcome, leading, send)
    known = known_of(send, seen.facts, policy)
    country = _country_of(known.recipient, known.channel)
    answer = answer_status = network_estimated = estimate_units = expected = None
    part = parts = 1
    if send is not None:
        part, parts = send.part, send.parts
        answer, answer_status = send.answer, send.answer_status
        network_estimated, estimate_units = send.network, send.price_units
        expected = receipt_expected(send, policy)
    sent_at_us, send_clock = _sent(send)
    took = latencies(send, seen)
    cost = cost_of(outcome, known.channel, known.account, send, seen, policy)
    first_event_at_us, last_event_at_us = _arrivals(lifecycle.facts)
    late = is_late(lifecycle, leading, policy, known.api, known.channel)
    flags = flags_of(lifecycle, seen, outcome, is_open, took.skewed, late, code_known)
    return Summary(
        outcome, is_final, is_open, outcome_at_us, outcome_clock, status_last, code, category,
        error_instance, known.api, known.channel, known.account, known.traffic, known.sender,
        known.recipient, country, known.client_ref, network_estimated, known.network_final,
        known.workflow_id, known.workflow_item, known.workflow_items, part, parts,
        known.segments, answer,
        answer_status, expected, sent_at_us, send_clock,
        _at(seen.submitted), _at(seen.delivered), _at(seen.read),
        took.carrier_latency_ms, took.deliver_latency_ms, took.accept_latency_ms,
        took.read_latency_ms, took.callback_latency_ms, took.ingest_lag_ms,
        cost.cost_units, cost.currency, cost.currency_source, cost.cost_source, estimate_units,
        first_event_at_us, last_event_at_us, flags,
    )  # fmt: skip


def _at(moment: Moment | None) -> int | None:
    return None if moment is None else moment.at_us


def _sent(send: Send | None) -> tuple[int | None, Clock | None]:
    """The request's time by the clock that told it, else when we heard of the send."""
    if send is None:
        return None, None
    if send.requested_at_us is None:
        return send.arrived_at_us, "ours"
    return send.requested_at_us, send.clock or "client"


def _decided(
    lifecycle: Lifecycle, outcome: Outcome, leading: Fact | None
) -> tuple[int | None, Clock | None]:
    """When the outcome came about: Vonage's time, else the arrival, the deadline, the answer."""
    if outcome in _BY_DEADLINE:
        for overdue in lifecycle.overdue:
            if overdue.kind == "final":
                return overdue.at_us, "ours"
    if leading is not None:
        if leading.provider_at_us is not None:
            return leading.provider_at_us, "vonage"
        return leading.arrived_at_us, "ours"
    send = lifecycle.send
    if send is None or outcome not in ("refused", "unanswered"):
        return None, None
    if send.answered_at_us is None:
        return send.arrived_at_us, "ours"
    return send.answered_at_us, send.clock or "client"


def _arrivals(facts: tuple[Fact, ...]) -> tuple[int | None, int | None]:
    """Of all facts, foreign ones too."""
    if not facts:
        return None, None
    first = last = facts[0].arrived_at_us
    for fact in facts:
        at_us = fact.arrived_at_us
        if at_us < first:
            first = at_us
        elif at_us > last:
            last = at_us
    return first, last
