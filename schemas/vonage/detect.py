"""What a webhook is, told by its content: people point several APIs at one URL (docs/vonage.md 1).

The edge needs the topic and the key only; the bytes are parsed once here and go on unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.codec import (
    TYPE_INBOUND,
    TYPE_INBOUND_V01,
    TYPE_RECEIPT,
    TYPE_SMS_INBOUND,
    TYPE_STATUS,
    TYPE_STATUS_V01,
)
from schemas.vonage import messages, sms
from schemas.vonage.fields import address, from_json, message_id
from schemas.vonage.reasons import NotUnderstoodError, Reason


class Detected(Struct, frozen=True):
    """Where a webhook goes. ``value`` is what is stored, and ``content_type`` describes it."""

    topic: str
    key: bytes
    ce_type: str
    value: bytes
    content_type: str | None


class Quarantine(Struct, frozen=True):
    """A webhook that cannot be used, and why. Its bytes are kept whole."""

    reason: Reason
    value: bytes
    content_type: str | None


class Told(NamedTuple):
    """Where a webhook belongs."""

    topic: str
    key: str
    ce_type: str


class _Probe(messages.Shape, gc=False):
    """What tells the webhooks of all APIs apart; every other key is skipped."""

    messageId: Any = None  # noqa: N815  # the wire's name
    msisdn: Any = None
    data: Any = None
    udh: Any = None
    type: Any = None
    keyword: Any = None


_SMS_KEYS = ("messageId", "msisdn", "status", "text", "data", "udh", "type", "keyword")
_decode = msgspec.json.Decoder(_Probe).decode


def detect(
    method: str, path: str, query: bytes, content_type: str | None, body: bytes
) -> Detected | Quarantine:
    """Tell one request. Pure; any input gets an answer. ``path`` is but a hint, unused so far.

    A request without a body speaks by its query string. That is a form by another way, so the
    stored content type says so: the decoder then needs no other mark.
    """
    if method == "GET" or not body:
        value, content_type = query, sms.FORM
    else:
        value = body
    try:
        topic, key, ce_type = tell(value, content_type)
    except NotUnderstoodError as error:
        return Quarantine(error.reason, value, content_type)
    return Detected(topic, key.encode(), ce_type, value, content_type)


def tell(value: bytes, content_type: str | None) -> Told:
    """Where a webhook belongs. Raises NotUnderstoodError for what no decoder would read."""
    if not value:
        raise NotUnderstoodError(Reason.EMPTY)
    if sms.is_form(content_type, value):
        return _tell_sms(sms.parse_form(value))
    try:
        probe = from_json(_decode, value)
    except NotUnderstoodError as error:
        if error.reason is Reason.NOT_JSON and not _may_be_json(content_type):
            raise NotUnderstoodError(Reason.CONTENT_TYPE) from None
        raise
    if probe.message_uuid in (None, "", "null") and probe.messageId is not None:
        return _tell_sms({name: getattr(probe, name) for name in _SMS_KEYS})
    return _tell_messages(probe)


def _tell_sms(fields: dict[str, Any]) -> Told:
    message = message_id(fields.get("messageId"))
    if sms.kind_of(fields) == "receipt":
        return Told(topics.RECEIPTS, message, TYPE_RECEIPT)
    return Told(topics.INBOUND, address(fields.get("msisdn")) or message, TYPE_SMS_INBOUND)


def _tell_messages(probe: _Probe) -> Told:
    message = message_id(probe.message_uuid)
    kind, version = messages.kind_of(probe)
    if kind == "status":
        return Told(topics.STATUSES, message, TYPE_STATUS if version == "v1" else TYPE_STATUS_V01)
    # Who wrote is the key, so that parts of one message meet. Without a sender the id spreads.
    sender = messages.party(probe.sender) or message
    return Told(topics.INBOUND, sender, TYPE_INBOUND if version == "v1" else TYPE_INBOUND_V01)


def _may_be_json(content_type: str | None) -> bool:
    """No content type counts as JSON: one captured webhook came so. The Alerts API's reference
    names json, jsonrequest, javascript, x-javascript and x-json (docs/vonage.md 1)."""
    media = sms.media_type(content_type)
    return not media or media.rpartition("/")[2].rpartition("+")[2] in _JSON_NAMES


_JSON_NAMES = frozenset({"json", "jsonrequest", "javascript", "x-javascript", "x-json"})
