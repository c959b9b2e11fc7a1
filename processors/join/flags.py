"""What else is to be known about a message, as sorted words.

| flag | when |
|---|---|
| aggregated | a long SMS without its segments' times: its latency may be 5 minutes too long |
| clock_skew | two clocks disagree: a latency came out negative and was clamped to 0 |
| contradiction | delivered or read, and a failure as well |
| fragment | it began after the message was forgotten, and knows only what came since |
| foreign_account | a verified account told something that is neither the send's nor its parent |
| late | the leading fact first arrived later than the final deadline |
| mended_time | a time had backslashes in it |
| no_first_event, no_send | that warning stands: no event after the send, no send after events |
| overdue | the final deadline went by, and nothing final came |
| retrying | still open, and the carrier is said to try again |
| truncated | more than 64 facts |
| unanswered | the send got no answer |
| unknown_code | the code is not in the catalogue |

``late`` is told by arrival alone, never by an overdue fact, and by the deadline without gaps: which
gaps there were is not in the set. Source: docs/rules.md 1, 3, 4 and 6.
"""

from __future__ import annotations

from processors.join.policy import Policy
from processors.join.reading import Reading
from schemas.events import Fact
from schemas.lifecycle import Lifecycle, Outcome


def start_us(lifecycle: Lifecycle) -> int | None:
    """When its deadlines start: arrival of the send here, else of the first fact."""
    if lifecycle.send is not None:
        return lifecycle.send.arrived_at_us
    first = lifecycle.revoke_requested_at_us
    for fact in lifecycle.facts:
        if first is None or fact.arrived_at_us < first:
            first = fact.arrived_at_us
    return first


def is_late(
    lifecycle: Lifecycle,
    leading: Fact | None,
    policy: Policy,
    api: str | None,
    channel: str | None,
) -> bool:
    if leading is None:
        return False
    start = start_us(lifecycle)
    assert start is not None  # there is a fact
    waited_us = leading.arrived_at_us - start
    if waited_us <= 0:
        return False
    send = lifecycle.send
    final_us = policy.final_us(api, channel, send.ttl_ms if send else None)
    return final_us is not None and waited_us > final_us


def flags_of(
    lifecycle: Lifecycle,
    seen: Reading,
    outcome: Outcome,
    is_open: bool,
    skewed: bool,
    late: bool,
    code_known: bool,
) -> tuple[str, ...]:
    """Sorted, so that equal sets have equal bytes."""
    flags = []
    if seen.aggregated:
        flags.append("aggregated")
    if skewed:
        flags.append("clock_skew")
    if seen.failed and seen.succeeded:
        flags.append("contradiction")
    if seen.foreign:
        flags.append("foreign_account")
    if lifecycle.fragment:
        flags.append("fragment")
    if late:
        flags.append("late")
    if seen.mended:
        flags.append("mended_time")
    flags += ["overdue" if due.kind == "final" else due.kind for due in lifecycle.overdue]
    if is_open and seen.retrying:
        flags.append("retrying")
    if lifecycle.truncated:
        flags.append("truncated")
    if outcome == "unanswered":
        flags.append("unanswered")
    if not code_known:
        flags.append("unknown_code")
    return tuple(sorted(flags)) if lifecycle.overdue else tuple(flags)
