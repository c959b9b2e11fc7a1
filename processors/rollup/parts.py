"""From a lifecycle to its part in a rollup.

A message is one of several if it is in a workflow (failover), or a part of a send of more than one.
The key is the workflow's id, else the send's. A message alone makes no part, nor does a fragment,
which knows less than its part told before. Of an erased one the rollup is told that it is gone;
what its part said holds nothing personal.

Where the key changes the message moves, and both rollups are told: two records of one call may have
two send ids, of which the first by bytes stays, and a workflow may be known late.

Source: docs/rules.md 2 and 3.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.lifecycle import Lifecycle
from schemas.rollup import Kind, Part


def part_of(lifecycle: Lifecycle) -> tuple[str, Part] | None:
    """The key and value for topic ``parts``, of a lifecycle that has its summary."""
    s, send = lifecycle.summary, lifecycle.send
    if s is None or lifecycle.fragment:
        return None
    kind: Kind
    if s.workflow_id is not None:
        key, kind, number, total = s.workflow_id, "failover", s.workflow_item, s.workflow_items
    elif send is not None and send.parts > 1 and send.send_id:
        key, kind, number, total = send.send_id, "parts", send.part, send.parts
    else:
        return None
    return key, Part(
        message_id=lifecycle.message_id,
        kind=kind,
        send_id=None if send is None else send.send_id,
        workflow_id=s.workflow_id,
        number=number,
        total=total,
        api=s.api,
        channel=s.channel,
        account=s.account,
        traffic=s.traffic,
        outcome=s.outcome,
        is_final=s.is_final,
        is_open=s.is_open,
        outcome_at_us=s.outcome_at_us,
        sent_at_us=s.sent_at_us,
        delivered_at_us=s.delivered_at_us,
        carrier_latency_ms=s.carrier_latency_ms,
        category=s.category,
        cost_units=s.cost_units,
        currency=s.currency,
    )


def parts_to_tell(before: Lifecycle, after: Lifecycle) -> list[tuple[str, Part]]:
    """What a change of a lifecycle makes other than it was told, by key."""
    told, part = part_of(before), part_of(after)
    if part == told:
        return []
    found = [] if part is None else [part]
    if told is not None and (part is None or part[0] != told[0]):
        mark = {"erased": True} if after.erased else {"moved": True}
        found.append((told[0], replace(told[1], **mark)))
    return found
