"""Parts and rollups: values of the topics ``parts`` and ``rollups``, keyed by workflow or send id.

A part says what became of one message of several, and holds nothing personal. A rollup is the set
of parts of one send, each in its latest version, and what follows from the set.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from schemas.lifecycle import Outcome

FORMAT = 1

Kind = Literal["parts", "failover"]
RollupOutcome = Outcome | Literal["partial"]


class Part(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message as it stood when its lifecycle changed: value of topic ``parts``."""

    v: int = 1  # a record without it is of format 1: this default never changes
    message_id: str
    kind: Kind
    send_id: str | None = None
    workflow_id: str | None = None
    number: int | None = None  # of the part, or of the failover item
    total: int | None = None  # parts of the send, or items of the workflow, tried or not
    api: str | None = None
    channel: str | None = None
    account: str | None = None
    traffic: Literal["live", "test"] = "live"
    outcome: Outcome
    is_final: bool = False
    is_open: bool = False
    outcome_at_us: int | None = None
    sent_at_us: int | None = None
    delivered_at_us: int | None = None
    carrier_latency_ms: int | None = None
    category: str | None = None
    cost_units: int | None = None
    currency: str | None = None
    moved: bool = False  # it stands in another rollup now, and counts in this one no more
    erased: bool = False  # its message was erased: it counts no more, and is not waited for


class Item(Struct, frozen=True):
    """A part and where it stood in its topic, counted on where that was made anew: of one message
    the highest position counts."""

    position: int
    part: Part


class RollupSummary(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What follows from the parts."""

    outcome: RollupOutcome
    is_final: bool = False
    is_open: bool = False
    outcome_at_us: int | None = None  # of the message that decided, or of the last one
    known: int = 0  # messages seen
    expected: int | None = None  # parts of the send; None where the number is not a promise
    delivered: int = 0
    decided_by: str | None = None  # the message whose outcome it is; None: several
    worst: Outcome | None = None
    last_delivered_at_us: int | None = None  # the whole text is there
    slowest_carrier_latency_ms: int | None = None
    sent_at_us: int | None = None
    # Sums by currency, sorted: money of two currencies is never added.
    costs: tuple[tuple[str, int], ...] = ()
    api: str | None = None
    channel: str | None = None  # of the message that decided, else of the first
    account: str | None = None
    traffic: Literal["live", "test"] = "live"
    truncated: bool = False


class Rollup(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """All parts of one send or workflow, sorted by message id, and what follows."""

    v: int = 1  # a record without it is of format 1: this default never changes
    id: str  # workflow_id, else send_id: the key
    kind: Kind = "parts"
    items: tuple[Item, ...] = ()
    truncated: bool = False
    fragment: bool = False  # began after the send was forgotten: knows only what came since
    touched_at_us: int | None = None  # when Kafka took the last part that changed it
    summary: RollupSummary | None = None
    due_at_us: int | None = None  # when it is forgotten
