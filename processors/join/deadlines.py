"""When silence becomes an event. Time is an input here: nothing asks a clock.

| kind | starts at | goes by after | until |
|---|---|---|---|
| no_first_event | the send's arrival | 10 min | any status or receipt |
| no_send | the first status or receipt | 5 min | the send, a final status |
| final | the send's arrival, else the first fact's | min(ttl, 72 h) + 1 h | a final outcome |

1. Starts are arrivals at our edge or proxy, never a client's or Vonage's time.
2. A gap, in which no edge took webhooks, moves a deadline by its length and Vonage's longest step
   between two attempts: what was refused then comes again that much later.
3. No deadline has: what is final or erased; what is untracked or unanswered (nothing can come); a
   set with a final status of a foreign account, where a deadline would leave no fact (facts.py).
4. A failover item after the first has no send of its own, so none is missed.
5. All durations are divided by the policy's time scale.

Source: docs/rules.md 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from processors.join.derive import summarise
from processors.join.facts import with_overdue
from processors.join.flags import start_us
from processors.join.gaps import Gap
from processors.join.outcome import is_overdue
from processors.join.policy import Policy
from processors.join.statuses import word_of
from schemas.events import Fact
from schemas.lifecycle import Lifecycle, Outcome, Overdue, OverdueKind, Summary

_NOTHING_COMES: frozenset[Outcome] = frozenset({"untracked", "unanswered"})


class Deadline(Struct, frozen=True, order=True):
    at_us: int
    kind: OverdueKind


def next_deadline(
    lifecycle: Lifecycle, policy: Policy, gaps: Sequence[Gap] = ()
) -> Deadline | None:
    """The earliest deadline still to come. Total; None where there is nothing to wait for."""
    summary = lifecycle.summary or summarise(lifecycle, policy)
    if summary is None or summary.is_final or summary.outcome in _NOTHING_COMES:
        return None
    for fact in lifecycle.facts:
        if word_of(fact.status).is_final:
            return None
    first: Deadline | None = None
    for kind, start, wait_us in _waits(lifecycle, summary, policy):
        if is_overdue(lifecycle, kind):
            continue
        at_us = moved(start, start + wait_us, gaps, policy.scaled_us(policy.retry_step_seconds))
        found = Deadline(at_us, kind)
        if first is None or found < first:
            first = found
    return first


def fire(lifecycle: Lifecycle, deadline: Deadline) -> Lifecycle:
    """The deadline went by: the union with its overdue fact."""
    return with_overdue(lifecycle, Overdue(deadline.kind, deadline.at_us))


def moved(start_us: int, at_us: int, gaps: Iterable[Gap], step_us: int) -> int:
    """A deadline after the gaps between its start and itself. A gap may move it into the next."""
    counted_until = start_us
    for begin, end in sorted(gaps):
        if begin >= at_us:
            break
        begin = max(begin, counted_until)
        if end > begin:
            at_us += end - begin + step_us
            counted_until = end
    return at_us


def _waits(
    lifecycle: Lifecycle, summary: Summary, policy: Policy
) -> list[tuple[OverdueKind, int, int]]:
    """Kind, start and length of every wait that concerns this message."""
    send, facts = lifecycle.send, lifecycle.facts
    start = start_us(lifecycle)
    if start is None:
        return []
    row = policy.deadlines_for(summary.api, summary.channel)
    found: list[tuple[OverdueKind, int, int]] = []
    if send is not None and not facts and row.no_first_event_seconds is not None:
        found.append(("no_first_event", start, policy.scaled_us(row.no_first_event_seconds)))
    if send is None and facts and row.no_send_seconds is not None and _has_own_send(summary):
        found.append(("no_send", _first_arrival(facts), policy.scaled_us(row.no_send_seconds)))
    final_us = policy.final_us(summary.api, summary.channel, send.ttl_ms if send else None)
    if final_us is not None:
        found.append(("final", start, final_us))
    return found


def _has_own_send(summary: Summary) -> bool:
    return summary.workflow_id is None or summary.workflow_item in (None, 1)


def _first_arrival(facts: tuple[Fact, ...]) -> int:
    return min([fact.arrived_at_us for fact in facts])
