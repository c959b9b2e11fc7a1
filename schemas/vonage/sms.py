"""SMS API: delivery receipts as query, form or JSON (FACTS section 2), and answers to sends.

In a receipt ``to`` is the sender that was used and ``msisdn`` is the recipient: the names are
inverted. Receipts of the US short-code Alerts API look the same; only the joined send tells them
apart, so the api of a receipt is ``sms_or_alerts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from schemas.events import CLIENT_REF_LENGTH, Arrival, Event, Fact, Send
from schemas.vonage.exchange import Exchange
from schemas.vonage.fields import (
    address,
    code,
    from_json,
    known_id,
    message_id,
    price,
    provider_time,
    text,
    whole,
)
from schemas.vonage.reasons import NotUnderstoodError, Reason

FORM = "application/x-www-form-urlencoded"
# A receipt has about twelve; ours in the configured URL come on top.
FIELD_LIMIT = 200

_decode_flat = msgspec.json.Decoder(dict[str, Any]).decode


def media_type(content_type: str | None) -> str:
    """Without parameters: Vonage sends ``...; charset=UTF-8`` too (FACTS section 1)."""
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


def decode_receipt(raw: bytes, content_type: str | None, arrival: Arrival) -> Event:
    """The event of a receipt in any of its three forms. Raises NotUnderstoodError."""
    if is_form(content_type, raw):
        return receipt(parse_form(raw), arrival)
    return receipt(from_json(_decode_flat, raw), arrival)


def status_of(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Id and status, if this is a receipt. Raises NotUnderstoodError that says what it is.

    A receipt has a status and no text. Receipts without ``scts`` are real, so it tells nothing
    (FACTS section 1).
    """
    get = fields.get
    message = message_id(get("messageId"))
    if not (get("text") is None and get("data") is None and get("udh") is None):
        raise NotUnderstoodError(Reason.SMS_INBOUND)
    status = text(get("status"))
    if status is None:
        raise NotUnderstoodError(Reason.NO_STATUS)
    return message, status.strip().lower()


def receipt(fields: Mapping[str, Any], arrival: Arrival) -> Event:
    """The event of a receipt's fields. Raises NotUnderstoodError."""
    get = fields.get
    message, status = status_of(fields)
    timestamp = text(get("message-timestamp"))
    if timestamp is not None and "\\" in timestamp:
        timestamp = timestamp.replace("\\", "")  # a seed's own Alerts example has them
    at_us, step_us = provider_time(timestamp)
    return Event(
        message,
        Fact(
            kind="receipt",
            status=status,
            code=code(get("err-code")),
            account=arrival.account or "",
            arrived_at_us=arrival.at_us,
            provider_at_us=at_us,
            provider_step_us=step_us,
            api="sms_or_alerts",
            channel="sms",
            sender=address(get("to")),
            recipient=address(get("msisdn")),
            network=text(get("network-code")),
            client_ref=text(get("client-ref"), CLIENT_REF_LENGTH),
            price_units=price(get("price")),
            claimed_account=text(get("api-key")),
        ),
    )


def sends(exchange: Exchange) -> list[Send]:
    """One send per message of the answer: parts of a long text, or several recipients.

    Messages are parts of one send only where their ``to`` agrees; each further recipient gets a
    send id of its own, ``<send_id>-2`` and so on. A refused part has no id: ``<send_id>.<part>``.
    HTTP is 200 even on errors; without a readable answer there is one send: unanswered (no
    ``answer_status``) or, under another HTTP status, refused as ``http-<status>``.
    """
    answer = exchange.answer if isinstance(exchange.answer, dict) else {}
    messages = answer.get("messages")
    items = [item for item in messages if type(item) is dict] if type(messages) is list else []
    if not items:
        http = exchange.answer_status
        note = None if http is None or http < 400 else f"http-{http}"
        return [_send(exchange, {}, exchange.send_id, 1, 1, note)]
    groups: dict[str | None, list[dict[str, Any]]] = {}
    requested = address(exchange.request.get("to"))
    for item in items:
        groups.setdefault(address(item.get("to")) or requested, []).append(item)
    result = []
    for number, group in enumerate(groups.values(), start=1):
        send_id = exchange.send_id if number == 1 else f"{exchange.send_id}-{number}"
        for part, item in enumerate(group, start=1):
            status = text(item.get("status"))
            result.append(_send(exchange, item, send_id, part, len(group), status))
    return result


def _send(
    exchange: Exchange,
    item: dict[str, Any],
    send_id: str,
    part: int,
    parts: int,
    answer_status: str | None,
) -> Send:
    request = exchange.request
    asked = request.get("client-ref")
    return Send(
        message_id=known_id(item.get("message-id")) or f"{send_id}.{part}",
        send_id=send_id,
        api="sms",
        arrived_at_us=exchange.arrived_at_us,
        part=part,
        parts=parts,
        account=exchange.account or text(request.get("api_key")),
        channel="sms",
        sender=address(request.get("from")),
        recipient=address(item.get("to")) or address(request.get("to")),
        client_ref=text(item.get("client-ref") if asked is None else asked, CLIENT_REF_LENGTH),
        network=text(item.get("network")),
        price_units=price(item.get("message-price")),
        balance_units=price(item.get("remaining-balance")),
        answer_status=answer_status,
        error_text=text(item.get("error-text")),
        requested_at_us=exchange.requested_at_us,
        answered_at_us=exchange.answered_at_us,
        ttl_ms=whole(request.get("ttl")),
        refused=answer_status not in (None, "0"),
        receipt_expected=request.get("status-report-req") not in (False, 0, "0", "false", "False"),
    )
