"""When a message is forgotten, and what is left of it then.

1. A week after the last that was heard of it, and never before 96 hours after its send.
2. Not while a deadline is open.
3. What is left is a remnant, for one more week: it tells a fact that comes later from the first
   fact of a new message. Such a fact starts a fragment, which knows only what came since.
4. Of an erased message the remnant goes on stripping what comes.

Durations are divided by the policy's time scale. Source: docs/architecture.md (Forgetting).
"""

from __future__ import annotations

from processors.join.facts import is_empty
from processors.join.policy import Policy
from schemas.lifecycle import Lifecycle


def forget_at_us(lifecycle: Lifecycle, policy: Policy) -> int | None:
    """When to forget it. None: nothing is known of it, and nothing is to be forgotten."""
    heard = [fact.arrived_at_us for fact in lifecycle.facts]
    heard += [overdue.at_us for overdue in lifecycle.overdue]
    for at_us in (lifecycle.revoke_requested_at_us, lifecycle.erased_at_us):
        if at_us is not None:
            heard.append(at_us)
    send = lifecycle.send
    if send is not None:
        heard.append(send.arrived_at_us)
    if not heard:
        return None
    at_us = max(heard) + policy.scaled_us(policy.forget_seconds)
    if send is None:
        return at_us
    return max(at_us, send.arrived_at_us + policy.scaled_us(policy.forget_after_send_seconds))


def remnant(message_id: str, erased: bool, forgotten_at_us: int, policy: Policy) -> Lifecycle:
    """What is kept of a forgotten message: that there was one."""
    until_us = forgotten_at_us + policy.scaled_us(policy.remnant_seconds)
    if erased:
        return Lifecycle(message_id=message_id, erased=True, due_at_us=until_us)
    return Lifecycle(message_id=message_id, fragment=True, due_at_us=until_us)


def is_remnant(lifecycle: Lifecycle) -> bool:
    return (lifecycle.fragment or lifecycle.erased) and is_empty(lifecycle)
