"""The lifecycle of one message: its set of facts, and the summary that follows from the set.

Value of topic ``lifecycles`` and of the joiner's store (the same bytes). ``v`` is the format
version; the previous one is still read.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from schemas.events import Fact, Send

FORMAT = 1

Outcome = Literal[
    "read", "delivered", "rejected", "failed", "undeliverable", "expired", "revoked", "refused",
    "unanswered", "unknown", "unconfirmed", "missing", "pending", "untracked",
]  # fmt: skip
OverdueKind = Literal["no_first_event", "no_send", "final"]
Clock = Literal["vonage", "ours", "client"]


class Overdue(Struct, frozen=True):
    """A deadline went by, and what it waited for had not come. One per kind."""

    kind: OverdueKind
    at_us: int  # the deadline, not when it was noticed


class Summary(Struct, frozen=True, omit_defaults=True):
    """What follows from the facts. Subscribers read this; the joiner derives it anew each time.

    Clocks of the latencies: ``carrier`` and ``read`` have both ends on Vonage's clock; ``callback``
    and ``ingest_lag`` are mixed (Vonage's, then ours); ``accept`` is on ``send_clock``; ``deliver``
    goes from ``send_clock`` to Vonage's.

    Built by position in ``processors/join/derive.py`` (by name it costs ten times as much), so the
    order of the fields counts there; a test holds the two together.
    """

    outcome: Outcome
    is_final: bool = False
    is_open: bool = False  # something may still come and change it, in time
    outcome_at_us: int | None = None
    outcome_clock: Clock | None = None
    status_last: str | None = None
    code: str | None = None
    category: str | None = None  # of `schemas/vonage/errors.py`, where the outcome is no success
    error_instance: str | None = None
    api: str | None = None
    channel: str | None = None
    account: str | None = None
    traffic: Literal["live", "test"] = "live"
    sender: str | None = None
    recipient: str | None = None
    country: str | None = None  # of the recipient's number: ISO 3166
    client_ref: str | None = None
    network_estimated: str | None = None
    network_final: str | None = None
    workflow_id: str | None = None
    workflow_item: int | None = None  # 1 is the message that was asked for
    workflow_items: int | None = None
    part: int = 1  # of the parts of one send
    parts: int = 1
    segments: int | None = None
    answer: str | None = None  # what Vonage said to the send: see `events.AnswerKind`
    answer_status: str | None = None
    receipt_expected: bool | None = None  # None: no send, nobody knows
    sent_at_us: int | None = None
    send_clock: Clock | None = None
    submitted_at_us: int | None = None
    delivered_at_us: int | None = None
    read_at_us: int | None = None
    carrier_latency_ms: int | None = None  # accepted or submitted to delivered: the headline
    deliver_latency_ms: int | None = None  # answer of the send to delivered
    accept_latency_ms: int | None = None  # request to answer
    read_latency_ms: int | None = None  # delivered to read
    callback_latency_ms: int | None = None  # Vonage's time to our edge, while we took webhooks
    ingest_lag_ms: int | None = None  # the same, whatever our edge did
    cost_units: int | None = None  # 1e-8 of the currency
    currency: str | None = None
    currency_source: Literal["field", "default"] | None = None
    cost_source: Literal["event", "estimate"] | None = None
    estimate_units: int | None = None  # the answer's price, also where an event told the real one
    first_event_at_us: int | None = None
    last_event_at_us: int | None = None
    flags: tuple[str, ...] = ()


class Lifecycle(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A set of facts about one message id, in normal form (sorted, bounded).

    Erased, it is ``{message_id, erased, erased_at}`` and when that is forgotten, for good.
    """

    v: int = 1  # a record without it is of format 1: this default never changes
    message_id: str
    send: Send | None = None
    facts: tuple[Fact, ...] = ()
    overdue: tuple[Overdue, ...] = ()  # sorted by kind
    revoke_requested_at_us: int | None = None
    truncated: bool = False
    fragment: bool = False  # began after the message was forgotten: knows only what came since
    erased: bool = False
    erased_at_us: int | None = msgspec.field(default=None, name="erased_at")
    summary: Summary | None = None
    # When to look at it again: the next deadline (but for gaps), else when it is forgotten.
    due_at_us: int | None = None
