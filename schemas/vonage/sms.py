"""SMS API: delivery receipts as query, form or JSON (docs/vonage.md 2).

In a receipt ``to`` is the sender that was used and ``msisdn`` is the recipient: the names are
inverted. Receipts of the US short-code Alerts API look the same; only the joined send tells them
apart, so the api of a receipt is ``sms_or_alerts``. Sends are in ``sms_send.py``, inbound messages
in ``sms_inbound.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import unquote_plus

import msgspec

from schemas.events import Arrival, Event, Fact
from schemas.vonage.fields import (
    address,
    code,
    from_json,
    message_id,
    message_timestamp,
    price,
    reference,
    word,
)
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sms_send import sends as sends

Kind = Literal["receipt", "inbound"]

FORM = "application/x-www-form-urlencoded"
# A receipt has about twelve; ours in the configured URL come on top.
FIELD_LIMIT = 200

decode_flat = msgspec.json.Decoder(dict[str, Any]).decode


def media_type(content_type: str | None) -> str:
    """Without parameters: Vonage sends ``...; charset=UTF-8`` too (docs/vonage.md 1)."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_form(content_type: str | None, raw: bytes) -> bool:
    """Called a form, and not JSON under a wrong name: no form's first key begins with a brace."""
    return media_type(content_type) == FORM and not raw.lstrip().startswith(b"{")


def parse_form(raw: bytes) -> dict[str, str]:
    """Fields of a query string or form. The last of equal names counts; bad bytes are U+FFFD."""
    if raw.count(b"&") >= FIELD_LIMIT:
        raise NotUnderstoodError(Reason.TOO_MANY_FIELDS)
    fields: dict[str, str] = {}
    for pair in raw.decode("utf-8", "replace").split("&"):
        name, _, value = pair.partition("=")
        if "%" in value or "+" in value:
            value = unquote_plus(value)
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        fields[name] = value
    return fields


def parse_fields(raw: bytes, content_type: str | None) -> dict[str, Any]:
    """The fields of a webhook or request in any of its forms. Raises NotUnderstoodError."""
    return parse_form(raw) if is_form(content_type, raw) else from_json(decode_flat, raw)


def kind_of(fields: Mapping[str, Any]) -> Kind:
    """What a webhook of the SMS API is. Raises NotUnderstoodError.

    A receipt has a status and no text. Receipts without ``scts`` are real, so it tells nothing
    (docs/vonage.md 1). No inbound message has a status, so beside one an empty or ``null`` text is
    no text. A binary message has ``data`` or ``udh``, and one without any still has its type.
    """
    get = fields.get
    has_status = word(get("status")) is not None
    words = get("text")
    if words is not None and not (has_status and words in ("", "null")):
        return "inbound"
    if word(get("data")) is not None or word(get("udh")) is not None:
        return "inbound"
    if has_status:
        return "receipt"
    if words is None and word(get("type")) is None and word(get("keyword")) is None:
        raise NotUnderstoodError(Reason.NO_STATUS)
    return "inbound"


def decode_receipt(raw: bytes, content_type: str | None, arrival: Arrival) -> Event:
    """The event of a receipt in any of its three forms. Raises NotUnderstoodError."""
    fields = parse_fields(raw, content_type)
    get = fields.get
    message = message_id(get("messageId"))
    if kind_of(fields) != "receipt":
        raise NotUnderstoodError(Reason.IS_INBOUND)
    at_us, step_us, mended = message_timestamp(get("message-timestamp"))
    return Event(
        message,
        Fact(
            kind="receipt",
            status=(word(get("status")) or "").strip().lower(),
            code=code(get("err-code")),
            account=arrival.account or "",
            arrived_at_us=arrival.at_us,
            provider_at_us=at_us,
            provider_step_us=step_us,
            mended=mended,
            api="sms_or_alerts",
            channel="sms",
            sender=address(get("to")),
            recipient=address(get("msisdn")),
            network=word(get("network-code")),
            client_ref=reference(get("client-ref")),
            price_units=price(get("price")),
            claimed_account=word(get("api-key")),
            after_refusal=arrival.after_refusal,
        ),
    )
