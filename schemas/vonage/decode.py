"""A record of an input topic to what the join works with. Pure, and it never raises on bad input.

The edge stores bytes unchanged; here, in processors, they are read. A receipt that came as a GET
has no body: its value is the query string, and the edge gives it the content type of a form, since
the two are the same format.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.codec import TYPE_SEND, arrival, decode_send, header
from schemas.events import Event, Send
from schemas.vonage.messages import decode_status
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sms import decode_receipt


class Unusable(Struct, frozen=True):
    """A record for quarantine. ``reason`` is one of :class:`schemas.vonage.reasons.Reason`."""

    reason: str


Decoded = Event | Send | Unusable


def decode(
    topic: str, value: bytes, headers: Sequence[tuple[str, bytes]], append_at_us: int
) -> Decoded:
    """Read one record. ``topic`` is the name without prefix; the append time stands in for a
    missing ``ce_time``."""
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


def _send(value: bytes, headers: Sequence[tuple[str, bytes]]) -> Send | Unusable:
    if header(headers, "ce_type") not in (TYPE_SEND, None):
        return Unusable(Reason.SEND_KIND)
    try:
        send = decode_send(value)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return Unusable(Reason.SEND_MALFORMED)
    return send if send.message_id else Unusable(Reason.NO_MESSAGE_ID)
