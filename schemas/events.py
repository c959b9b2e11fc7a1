"""Events: what a webhook or a send says, in normal form.

One webhook becomes one :class:`Fact` (a status or a receipt) or one :class:`Inbound`, one send
record becomes one :class:`Send` per message. Unknown stays None: nothing is guessed here. Keys that
no field stands for are not kept: the bytes in the input topics are (docs/decisions/0006).

All times are microseconds since 1970 UTC (``_us``), money is in 1e-8 units of its currency
(``cost_units``). Text is cut when decoded, so that 64 facts fit in 256 KiB (docs/rules.md 1).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

# Of sends, revokes and erases.
FORMAT = 1

# Bounds of text. A client reference is people's own: 100 characters, whatever they are. The others
# count the bytes of their JSON, since a character can take six, and 64 facts must fit in 256 KiB.
CLIENT_REF_LENGTH = 100
TEXT_LENGTH = 256  # what a person reads: an error's text
ID_TEXT_LENGTH = 128  # numbers, names of senders, ids of workflows
INSTANCE_LENGTH = 216  # id of an error's occurrence: a UUID is known to fit without a count
WORD_LENGTH = 64  # a word of some vocabulary: status, code, channel, network, currency
MAX_SEGMENTS = 20  # entries of `segments_detail`; the 1,000 characters of a text make at most 16

Api = Literal["messages", "sms", "alerts", "sms_or_alerts"]
Version = Literal["v0.1", "v1"]
Verified = Literal["jwt", "sig", "token", "none"]
AnswerKind = Literal[
    "accepted",
    "refused",
    "throttled",  # refused for now: too much at once
    "unanswered",  # no answer came: the message may be on its way
    "unreadable",  # an answer came that says neither yes nor no: it may be on its way too
]
KeywordClass = Literal["STOP", "HELP", "other", "none"]

# When something came to us: not before 1970, nor after what 64 bits hold with a deadline added. The
# index of what is due is ordered by unsigned bytes, and a record of any producer may come.
ArrivalUs = Annotated[int, Meta(ge=0, lt=1 << 60)]


class Arrival(Struct, frozen=True):
    """What the edge knew of a webhook: the record's CloudEvents headers, decoded."""

    at_us: int
    account: str | None = None  # only when verified: a body may claim any account
    after_refusal: bool = False  # `ce_afterrefusal`: see Fact


class Segment(Struct, frozen=True, array_like=True, order=True):
    """One SMS of an aggregated status: entry 0 of ``segments_detail`` is the first one.

    Comparable and without None, so that two lists of one fact can be merged by any rule.
    """

    status: str = ""  # "" is not told
    at_us: int = 0  # 0 is not told
    step_us: int = 0


class Fact(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A status (Messages API) or a receipt (SMS and Alerts API) about one message.

    Identity: (kind, status, code, segment, account); see ``processors/join/facts.py``. The version
    is none of it: one message may get both.
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
    version: Version | None = None  # of the Messages webhook: some codes differ
    mended: bool = False  # the time had backslashes in it (docs/rules.md 6)
    segments_detail: tuple[Segment, ...] | None = None  # merged entry by entry, by index
    workflow_item: int | None = None  # 1 is the message asked for, more is failover
    workflow_items: int | None = None
    pricing_type: str | None = None  # WhatsApp: regular, free_customer_service, ...
    pricing_model: str | None = None  # WhatsApp: PMP or CBP
    pricing_category: str | None = None  # WhatsApp: service, utility, ...
    conversation_origin: str | None = None  # WhatsApp: who began the conversation
    after_refusal: bool = False  # came while, or soon after, our edge refused (`ce_afterrefusal`)


class Inbound(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A message that came in, or one part of it (SMS API). Without its text, unless asked for.

    Parts are put together by (sender, recipient, concat_ref); some carriers send parts without
    any mark (docs/vonage.md 2).
    """

    message_id: str
    api: Literal["messages", "sms"]
    version: Version | None = None
    channel: str | None = None
    account: str = ""  # verified account, "" if none was
    claimed_account: str | None = None
    sender: str | None = None
    recipient: str | None = None
    arrived_at_us: int
    provider_at_us: int | None = None
    provider_step_us: int | None = None
    mended: bool = False
    message_type: str | None = None  # text, image, ...; binary for the SMS API's
    encoding: str | None = None  # text, unicode or binary: only the SMS API tells
    text_length: int | None = None  # in characters
    keyword_class: KeywordClass = "none"
    concat_ref: str | None = None
    concat_total: int | None = None
    concat_part: int | None = None
    segments: int | None = None  # SMS that the Messages API has put together
    data_length: int | None = None  # in bytes
    udh_length: int | None = None
    network: str | None = None
    price_units: int | None = None
    currency: str | None = None
    client_ref: str | None = None
    reply_to: str | None = None  # the message that this one answers, if its context says so
    text: str | None = None


class Send(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message as it was sent, with Vonage's answer: the value of topic ``sends``.

    Never holds credentials or the text.
    """

    v: int = 1  # a record without it is of format 1: this default never changes
    message_id: str
    send_id: str
    api: Api
    arrived_at_us: ArrivalUs
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
    ttl_ms: Annotated[int, Meta(ge=0)] | None = None
    receipt_expected: bool = True
    refused: bool = False  # Vonage said no: an SMS API status other than 0, an HTTP status >= 400
    answer: AnswerKind | None = None  # None: written before there was this field
    http_status: int | None = None
    error_code: str | None = None  # fragment of a problem's `type`: a number or a word
    error_instance: str | None = None
    version: Version | None = None  # of the Messages API that was called
    application: str | None = None
    host: str | None = None  # of Vonage: the sandbox has one of its own
    workflow_id: str | None = None  # failover: the answer has it beside the first item's id
    failover_items: int | None = None  # further items in the request
    callback_host: str | None = None  # webhooks about this message go there, and maybe not to us
    message_type: str | None = None
    encoding: str | None = None  # as asked for: text, unicode, binary, auto
    message_class: int | None = None
    pool_id: str | None = None
    entity_id: str | None = None
    content_id: str | None = None
    template: str | None = None  # name or number; its parameters are content
    clock: Literal["ours", "client"] | None = None  # of the two times; None: the client's


class Revoke(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Someone asked Vonage to take a message back: a captured PATCH with ``revoked``."""

    v: int = 1  # a record without it is of format 1: this default never changes
    message_id: str
    arrived_at_us: ArrivalUs
    account: str | None = None


class Erase(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A person is to be forgotten: everything personal about this message goes."""

    v: int = 1  # a record without it is of format 1: this default never changes
    message_id: str
    arrived_at_us: ArrivalUs


class Event(Struct, frozen=True):
    """A decoded webhook: which message it is about, and the fact it adds."""

    message_id: str
    fact: Fact
