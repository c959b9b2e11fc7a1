"""Messages API: inbound messages of v1 and v0.1, for every channel (docs/vonage.md 1 and 3).

v0.1 puts the message into ``message.content``, v1 beside the other keys, where only SMS has no
``message_type``. Parts of a long SMS are already put together here: ``sms.num_messages``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.events import Arrival, Inbound
from schemas.vonage.fields import (
    channel,
    count,
    from_json,
    ident,
    mapping,
    message_id,
    price,
    provider_time,
    reference,
    text,
    word,
)
from schemas.vonage.keywords import keyword_class
from schemas.vonage.messages import Shape, kind_of, party
from schemas.vonage.reasons import NotUnderstoodError, Reason


class _Inbound(Shape, gc=False):
    """The other keys in use."""

    timestamp: Any = None
    usage: Any = None
    client_ref: Any = None
    origin: Any = None
    sms: Any = None
    context: Any = None


_decode = msgspec.json.Decoder(_Inbound).decode


def decode_inbound(body: bytes, arrival: Arrival, *, keep_text: bool = False) -> Inbound:
    """The event of an inbound message. Raises NotUnderstoodError for what is none."""
    given = from_json(_decode, body)
    uuid = message_id(given.message_uuid)
    kind, version = kind_of(given)
    if kind != "inbound":
        raise NotUnderstoodError(Reason.IS_NO_INBOUND)
    at_us, step_us = provider_time(given.timestamp)
    message = mapping(given.message)
    content = mapping(message.get("content"))
    sms = mapping(given.sms) or mapping(message.get("sms")) or mapping(content.get("sms"))
    words = content.get("text") if given.text is None else given.text
    usage = mapping(given.usage)
    return Inbound(
        message_id=uuid,
        api="messages",
        version=version,
        channel=_channel(given),
        account=arrival.account or "",
        sender=party(given.sender),
        recipient=party(given.to),
        arrived_at_us=arrival.at_us,
        provider_at_us=at_us,
        provider_step_us=step_us,
        message_type=_message_type(given, content),
        text_length=len(words) if type(words) is str else None,
        keyword_class=keyword_class(sms.get("keyword"), words),
        segments=_segments(sms) if sms else None,
        network=word(mapping(given.origin).get("network_code")),
        price_units=price(usage.get("price")),
        currency=word(usage.get("currency")),
        client_ref=reference(given.client_ref),
        reply_to=ident(mapping(given.context).get("message_uuid")),
        text=words if keep_text and type(words) is str else None,
    )


def _channel(given: _Inbound) -> str | None:
    named = channel(given.channel)
    if named is not None:
        return named
    for side in (given.sender, given.to):
        named = channel(mapping(side).get("type"))
        if named is not None:
            return named
    return None


def _message_type(given: _Inbound, content: dict[str, Any]) -> str | None:
    """An SMS has no type in v1, since it is always text (docs/vonage.md 1)."""
    told = word(given.message_type) or word(content.get("type"))
    if told is None and type(given.text) is str:
        return "text"
    return told


def _segments(sms: dict[str, Any]) -> int | None:
    """``num_messages`` (the specification) or ``total_count``, which SDKs know too."""
    for name in ("num_messages", "total_count"):
        found = count(text(sms.get(name)))
        if found is not None:
            return found
    return None
