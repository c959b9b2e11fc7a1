"""SMS API: inbound messages as query, form or JSON (docs/vonage.md 2).

Here ``msisdn`` is the sender and ``to`` is our number, the other way round than in a receipt. A
long text comes in parts, each a message of its own with an id of its own; ``concat-*`` ties them,
but some carriers leave it out.
"""

from __future__ import annotations

from typing import Any

from schemas.events import Arrival, Inbound
from schemas.vonage.fields import (
    address,
    count,
    message_id,
    message_timestamp,
    price,
    reference,
    word,
)
from schemas.vonage.keywords import keyword_class
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sms import kind_of, parse_fields


def decode_inbound(
    raw: bytes, content_type: str | None, arrival: Arrival, *, keep_text: bool = False
) -> Inbound:
    """The event of an inbound message in any of its three forms. Raises NotUnderstoodError.

    ``type=unicode`` is decoded once, by the form or by JSON, and never again (docs/rules.md 6).
    """
    fields = parse_fields(raw, content_type)
    get = fields.get
    message = message_id(get("messageId"))
    if kind_of(fields) != "inbound":
        raise NotUnderstoodError(Reason.IS_NO_INBOUND)
    at_us, step_us, mended = message_timestamp(get("message-timestamp"))
    words = get("text")
    encoding = word(get("type"))
    return Inbound(
        message_id=message,
        api="sms",
        channel="sms",
        account=arrival.account or "",
        claimed_account=word(get("api-key")),
        sender=address(get("msisdn")),
        recipient=address(get("to")),
        arrived_at_us=arrival.at_us,
        provider_at_us=at_us,
        provider_step_us=step_us,
        mended=mended,
        message_type="binary" if encoding == "binary" else "text",
        encoding=encoding,
        text_length=len(words) if type(words) is str else None,
        keyword_class=keyword_class(get("keyword"), words),
        **_concatenation(fields),
        data_length=_bytes(get("data")),
        udh_length=_bytes(get("udh")),
        network=word(get("network-code")),
        price_units=price(get("price")),
        client_ref=reference(get("client-ref")),
        text=words if keep_text and type(words) is str else None,
    )


def _concatenation(fields: dict[str, Any]) -> dict[str, Any]:
    """``concat`` itself says nothing more: it is "true" or not there."""
    return {
        "concat_ref": word(fields.get("concat-ref")),
        "concat_total": count(fields.get("concat-total")),
        "concat_part": count(fields.get("concat-part")),
    }


def _bytes(value: object) -> int | None:
    """How many bytes these hex digits are. Examples hold other words: those are counted as such."""
    if type(value) is not str or value in ("", "null"):
        return None
    try:
        return len(bytes.fromhex(value))
    except ValueError:
        return len(value.encode("utf-8", "replace"))
