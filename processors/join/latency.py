"""How long each stage took, and by whose clocks.

| stage | from | to | clocks |
|---|---|---|---|
| carrier | earliest accepted, buffered or submitted | delivered | Vonage's |
| deliver | answer of the send | delivered | the send's, then Vonage's |
| accept | request | answer | the send's |
| read | delivered | read | Vonage's |
| callback | provider time of the first status | its first arrival | Vonage's, then ours |
| ingest_lag | the same, records after a refusal of ours not left out | | Vonage's, then ours |

1. Two clocks are compared at the coarser step. What is negative then is 0, and ``skewed``.
2. ``delivered`` is never taken from ``read``: without it there is no delivery latency.
3. Of a long SMS Vonage holds the status back for up to 5 minutes: its last segment's time counts,
   and without one the latency is ``aggregated`` (reading.py), which keeps it out of the headline.
4. ``scts`` is never a clock. A receipt's time is when Vonage began to push it: an upper bound.
5. The first status is the one with the earliest provider time, so that later ones change nothing.

Source: docs/rules.md 4.
"""

from __future__ import annotations

from msgspec import Struct

from processors.join.reading import Moment, Reading
from schemas.events import Fact, Send
from schemas.numbers import SECOND_US


class Latencies(Struct, frozen=True):
    """None where an end is not known."""

    carrier_latency_ms: int | None = None
    deliver_latency_ms: int | None = None
    accept_latency_ms: int | None = None
    read_latency_ms: int | None = None
    callback_latency_ms: int | None = None
    ingest_lag_ms: int | None = None
    skewed: bool = False


def latencies(send: Send | None, seen: Reading) -> Latencies:
    """Total. Our clock and the client's tell microseconds."""
    carrier = deliver = accept = read = callback = lag = None
    delivered = seen.delivered
    if delivered is not None:
        if seen.submitted is not None:
            carrier = _between_ms(seen.submitted.at_us, seen.submitted.step_us, delivered)
        if seen.read is not None:
            read = _between_ms(delivered.at_us, delivered.step_us, seen.read)
    if send is not None and send.answered_at_us is not None:
        if delivered is not None:
            deliver = _between_ms(send.answered_at_us, 1, delivered)
        if send.requested_at_us is not None:
            accept = (send.answered_at_us - send.requested_at_us) // 1000
    if seen.facts:
        lag = callback = _arrival_ms(seen.facts, False)
        for fact in seen.facts:
            if fact.after_refusal:
                callback = _arrival_ms(seen.facts, True)
                break
    skewed = False
    for took in (carrier, deliver, accept, read, callback, lag):
        if took is not None and took < 0:
            skewed = True
    if skewed:
        carrier, deliver, accept = _clamped(carrier), _clamped(deliver), _clamped(accept)
        read, callback, lag = _clamped(read), _clamped(callback), _clamped(lag)
    return Latencies(carrier, deliver, accept, read, callback, lag, skewed)


def _between_ms(start_us: int, step_us: int, end: Moment) -> int:
    """At the coarser step of the two clocks; below 0 if they disagree."""
    if end.step_us > step_us:
        step_us = end.step_us
    return (end.at_us // step_us - start_us // step_us) * step_us // 1000


def _clamped(took_ms: int | None) -> int | None:
    return None if took_ms is None else max(0, took_ms)


def _arrival_ms(facts: tuple[Fact, ...], without_marked: bool) -> int | None:
    """From the earliest provider time to the arrival of the fact that told it."""
    first: Fact | None = None
    for fact in facts:
        at_us = fact.provider_at_us
        if at_us is None or (without_marked and fact.after_refusal):
            continue
        if first is None or _tells_before(fact, first):
            first = fact
    if first is None or first.provider_at_us is None:
        return None
    step_us = first.provider_step_us or SECOND_US
    return (first.arrived_at_us // step_us - first.provider_at_us // step_us) * step_us // 1000


def _tells_before(fact: Fact, other: Fact) -> bool:
    """By provider time, then arrival, then step: values only, so that order leaves no trace."""
    mine, others = fact.provider_at_us, other.provider_at_us
    assert mine is not None
    assert others is not None
    if mine != others:
        return mine < others
    return (fact.arrived_at_us, fact.provider_step_us or SECOND_US) < (
        other.arrived_at_us,
        other.provider_step_us or SECOND_US,
    )
