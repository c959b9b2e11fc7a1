"""What a webhook is, told by its content: people point several APIs at one URL (FACTS section 1).

The edge needs the topic and the key only; the bytes are parsed once here and go on unchanged.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.codec import TYPE_RECEIPT, TYPE_STATUS
from schemas.vonage import messages, sms
from schemas.vonage.fields import from_json
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


class _Probe(messages.Shape, gc=False):
    """What tells the webhooks of all APIs apart; every other key is skipped."""

    messageId: Any = None  # noqa: N815  # the wire's name
    data: Any = None
    udh: Any = None


_SMS_KEYS = ("messageId", "status", "text", "data", "udh")
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
        topic, key, ce_type = _tell(value, content_type)
    except NotUnderstoodError as error:
        return Quarantine(error.reason, value, content_type)
    return Detected(topic, key.encode(), ce_type, value, content_type)


def _tell(value: bytes, content_type: str | None) -> tuple[str, str, str]:
    if not value:
        raise NotUnderstoodError(Reason.EMPTY)
    if sms.is_form(content_type, value):
        return topics.RECEIPTS, sms.status_of(sms.parse_form(value))[0], TYPE_RECEIPT
    try:
        probe = from_json(_decode, value)
    except NotUnderstoodError as error:
        if error.reason is Reason.NOT_JSON and not _may_be_json(content_type):
            raise NotUnderstoodError(Reason.CONTENT_TYPE) from None
        raise
    if probe.message_uuid in (None, "", "null") and probe.messageId is not None:
        fields = {name: getattr(probe, name) for name in _SMS_KEYS}
        return topics.RECEIPTS, sms.status_of(fields)[0], TYPE_RECEIPT
    return topics.STATUSES, messages.status_of(probe)[0], TYPE_STATUS


def _may_be_json(content_type: str | None) -> bool:
    """No content type counts as JSON: one captured webhook came so."""
    media = sms.media_type(content_type)
    return not media or media.rpartition("/")[2].rpartition("+")[2] in ("json", "x-json")
