"""A record of an input topic as an event. Pure, and it never raises on bad input.

The edge stores bytes unchanged; here, in processors and sinks, they are read. A receipt that came
as a GET has no body: its value is the query string, and the edge gives it the content type of a
form, since the two are the same format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.codec import (
    TYPE_ERASE,
    TYPE_REVOKE,
    TYPE_SEND,
    arrival,
    decode_erase,
    decode_revoke,
    decode_send,
    header,
)
from schemas.events import Arrival, Erase, Event, Inbound, Revoke, Send
from schemas.formats import UNREADABLE, NewerFormat
from schemas.vonage import messages_inbound, sms_inbound
from schemas.vonage.fields import from_json
from schemas.vonage.messages import decode_status
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sms import decode_receipt, is_form

# What sendtrace itself writes to `sends` has a tenth of it. What has more would make a lifecycle
# that Kafka does not take.
SEND_LIMIT_BYTES = 64 * 1024


class Unusable(Struct, frozen=True):
    """A record for quarantine. ``reason`` is one of :class:`schemas.vonage.reasons.Reason`."""

    reason: str


Decoded = Event | Send | Revoke | Erase | Unusable


def decode(
    topic: str,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    append_at_us: int,
) -> Decoded:
    """Read one record of what the join works with. ``topic`` is the name without prefix; the
    append time stands in for a missing ``ce_time``."""
    if value is None:  # any client may write one
        return Unusable(Reason.EMPTY)
    try:
        if topic == topics.STATUSES:
            return decode_status(value, arrival(headers, append_at_us))
        if topic == topics.RECEIPTS:
            content_type = header(headers, "content-type")
            return decode_receipt(value, content_type, arrival(headers, append_at_us))
    except NotUnderstoodError as error:
        return Unusable(error.reason)
    if topic == topics.SENDS:
        return _send(value, headers)
    return Unusable(Reason.TOPIC)


def decode_inbound(
    value: bytes,
    headers: Sequence[tuple[str, bytes]],
    append_at_us: int,
    *,
    keep_text: bool = False,
) -> Inbound | Unusable:
    """Read one record of topic ``inbound``. Text is left out, unless it is asked for."""
    content_type = header(headers, "content-type")
    try:
        return inbound(value, content_type, arrival(headers, append_at_us), keep_text=keep_text)
    except NotUnderstoodError as error:
        return Unusable(error.reason)


def inbound(
    value: bytes, content_type: str | None, came: Arrival, *, keep_text: bool = False
) -> Inbound:
    """An inbound message of any API. Raises NotUnderstoodError."""
    if is_form(content_type, value) or _is_sms(from_json(_decode_ids, value)):
        return sms_inbound.decode_inbound(value, content_type, came, keep_text=keep_text)
    return messages_inbound.decode_inbound(value, came, keep_text=keep_text)


class _Ids(Struct, gc=False):
    message_uuid: Any = None
    messageId: Any = None  # noqa: N815  # the wire's name


_decode_ids = msgspec.json.Decoder(_Ids).decode


def _is_sms(ids: _Ids) -> bool:
    """The same question as in ``detect``."""
    return ids.message_uuid in (None, "", "null") and ids.messageId is not None


_OF_SENDS: dict[str | None, Callable[[bytes], Send | Revoke | Erase]] = {
    None: decode_send,
    TYPE_SEND: decode_send,
    TYPE_REVOKE: decode_revoke,
    TYPE_ERASE: decode_erase,
}


def _send(
    value: bytes, headers: Sequence[tuple[str, bytes | None]]
) -> Send | Revoke | Erase | Unusable:
    """A record of topic ``sends``: ``ce_type`` tells which of the three it is."""
    decode_one = _OF_SENDS.get(header(headers, "ce_type"))
    if decode_one is None:
        return Unusable(Reason.SEND_KIND)
    if len(value) > SEND_LIMIT_BYTES:
        return Unusable(Reason.SEND_MALFORMED)
    try:
        found = decode_one(value)
    except NewerFormat:
        return Unusable(Reason.NEWER_FORMAT)
    except UNREADABLE:
        return Unusable(Reason.SEND_MALFORMED)
    return found if found.message_id else Unusable(Reason.NO_MESSAGE_ID)
