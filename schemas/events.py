"""Events: what a webhook or a send says, in normal form.

One webhook becomes one :class:`Fact` (a status or a receipt), one send record becomes one
:class:`Send` per message. Unknown stays None: nothing is guessed here.

All times are microseconds since 1970 UTC (``_us``), money is in 1e-8 units of its currency
(``cost_units``). Text is cut when decoded, so that 64 facts fit in 256 KiB (RULES section 1).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

CLIENT_REF_LENGTH = 100
TEXT_LENGTH = 256

Api = Literal["messages", "sms", "alerts", "sms_or_alerts"]
Verified = Literal["jwt", "sig", "token", "none"]


class Arrival(Struct, frozen=True):
    """What the edge knew of a webhook: the record's CloudEvents headers, decoded."""

    at_us: int
    account: str | None = None  # only when verified: a body may claim any account


class Fact(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A status (Messages API) or a receipt (SMS and Alerts API) about one message.

    Identity: (kind, status, code, segment, account); see ``processors/join/facts.py``.
    """

    kind: Literal["status", "receipt"]
    status: str  # lower case
    code: str = ""  # "" is no error: absent, null, empty and 0 are the same code
    segment: str = ""
    account: str = ""  # verified account, "" if none was
    arrived_at_us: int  # first arrival at the edge
    provider_at_us: int | None = None  # Vonage's own time
    provider_step_us: int | None = None  # the step of that clock: a second or a millisecond
    api: Api | None = None
    channel: str | None = None
    sender: str | None = None
    recipient: str | None = None
    network: str | None = None
    client_ref: str | None = None
    price_units: int | None = None
    currency: str | None = None
    claimed_account: str | None = None  # what the body says, verified or not
    segments: int | None = None
    workflow_id: str | None = None
    error_title: str | None = None
    error_instance: str | None = None


class Send(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message as it was sent, with Vonage's answer: the value of topic ``sends``.

    Never holds credentials or the text.
    """

    v: int = 1
    message_id: str
    send_id: str
    api: Api
    arrived_at_us: int
    part: int = 1
    parts: int = 1
    account: str | None = None
    channel: str | None = None
    sender: str | None = None
    recipient: str | None = None
    client_ref: str | None = None
    network: str | None = None  # estimated, from the answer
    price_units: int | None = None  # estimate, from the answer
    currency: str | None = None
    balance_units: int | None = None
    answer_status: str | None = None  # SMS API status, or the HTTP status of the Messages API
    error_text: str | None = None
    requested_at_us: int | None = None
    answered_at_us: int | None = None
    ttl_ms: int | None = None
    receipt_expected: bool = True
    refused: bool = False  # Vonage said no: an SMS API status other than 0, an HTTP status >= 400


class Event(Struct, frozen=True):
    """A decoded webhook: which message it is about, and the fact it adds."""

    message_id: str
    fact: Fact
