"""The lifecycle of one message: its set of facts, and the summary that follows from the set.

Value of topic ``lifecycles`` and of the joiner's store (the same bytes). ``v`` is the format
version; the previous one is still read.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from schemas.events import Fact, Send

FORMAT = 1

Outcome = Literal[
    "read", "delivered", "rejected", "failed", "undeliverable", "expired", "revoked", "refused",
    "unanswered", "unknown", "unconfirmed", "missing", "pending", "untracked",
]  # fmt: skip


class Summary(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What follows from the facts. Subscribers read this; the joiner derives it anew each time."""

    outcome: Outcome
    is_final: bool = False
    outcome_at_us: int | None = None  # Vonage's clock
    api: str | None = None
    channel: str | None = None
    account: str | None = None
    sender: str | None = None
    recipient: str | None = None
    client_ref: str | None = None
    network_estimated: str | None = None
    network_final: str | None = None
    workflow_id: str | None = None
    segments: int | None = None
    status_last: str | None = None
    code: str | None = None
    error_instance: str | None = None
    sent_at_us: int | None = None
    submitted_at_us: int | None = None
    delivered_at_us: int | None = None
    read_at_us: int | None = None
    carrier_latency_ms: int | None = None  # both ends on Vonage's clock
    cost_units: int | None = None  # 1e-8 of the currency
    currency: str | None = None
    currency_source: Literal["field", "default"] | None = None
    cost_source: Literal["event", "estimate"] | None = None
    first_event_at_us: int | None = None
    last_event_at_us: int | None = None
    flags: tuple[str, ...] = ()


class Lifecycle(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A set of facts about one message id, in normal form (sorted, bounded)."""

    v: int = FORMAT
    message_id: str
    send: Send | None = None
    facts: tuple[Fact, ...] = ()
    truncated: bool = False
    summary: Summary | None = None
