"""Vonage's payloads as templates: send answers, statuses and receipts, byte for byte.

Written from the documented examples, by hand. Must not import ``schemas.vonage``: what the parser
misunderstands must not be misunderstood here in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

STATUS_PATH = "/webhooks/status"
RECEIPT_PATH = "/webhooks/delivery-receipt"
ERRORS_URL = "https://developer.vonage.com/api-errors/messages"
ERROR_TITLES = {
    "1240": "Illegal Number",
    "1260": "Destination unreachable",
    "1280": "Number Blocked by Carrier",
    "1330": "Unknown",
}

Shape = Literal["json", "form", "get"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Leg:
    """From whom to whom, and what it costs."""

    sender: str
    recipient: str
    channel: str
    network: str
    price: str
    client_ref: str
    text: str


@dataclass(frozen=True)
class Part:
    """One message id of a send."""

    message_id: str
    account: str
    leg: Leg


@dataclass(frozen=True)
class Webhook:
    """One request to the edge. A GET carries its payload in ``query``, the others in ``body``."""

    message_id: str
    after_seconds: float
    method: Literal["GET", "POST"]
    path: str
    query: str = ""
    body: bytes = b""
    content_type: str | None = None
    is_repeat: bool = False

    def repeated(self, seconds_later: float) -> Webhook:
        """The same bytes once more, as after an answer that Vonage did not see."""
        return replace(self, after_seconds=self.after_seconds + seconds_later, is_repeat=True)


def receipt(
    part: Part, status: str, code: str, at_us: int, after_seconds: float, shape: Shape
) -> Webhook:
    """A delivery receipt of the SMS API: flat strings, ``to`` is the sender, no zone in times."""
    moment = _moment(at_us, after_seconds)
    fields = {
        "msisdn": part.leg.recipient,
        "to": part.leg.sender,
        "network-code": part.leg.network,
        "messageId": part.message_id,
        "price": part.leg.price,
        "status": status,
        "scts": moment.strftime("%y%m%d%H%M"),
        "err-code": code,
        "api-key": part.account,
        "client-ref": part.leg.client_ref,
        "message-timestamp": moment.strftime("%Y-%m-%d %H:%M:%S"),
    }
    if shape == "get":
        query = urlencode(fields)
        return Webhook(part.message_id, after_seconds, "GET", RECEIPT_PATH, query=query)
    form = shape == "form"
    return Webhook(
        part.message_id,
        after_seconds,
        "POST",
        RECEIPT_PATH,
        body=(urlencode(fields) if form else _compact(fields)).encode(),
        content_type="application/x-www-form-urlencoded; charset=UTF-8"
        if form
        else "application/json",
    )


def status(part: Part, name: str, code: str, at_us: int, after_seconds: float) -> Webhook:
    """A status of the Messages API v1: whole seconds, usage once it is charged."""
    leg = part.leg
    fields: dict[str, object] = {
        "message_uuid": part.message_id,
        "to": leg.recipient,
        "from": leg.sender,
        "timestamp": _moment(at_us, after_seconds).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "status": name,
        "channel": leg.channel,
        "client_ref": leg.client_ref,
    }
    if code:
        fields["error"] = {
            "type": f"{ERRORS_URL}#{code}",
            "title": code,
            "detail": ERROR_TITLES[code],
            "instance": part.message_id.replace("-", ""),
        }
    if leg.channel == "sms":
        fields["destination"] = {"network_code": leg.network}
        fields["sms"] = {"count_total": "1"}
    if leg.channel == "sms" or name in ("delivered", "read"):
        fields["usage"] = {"currency": "EUR", "price": leg.price.rstrip("0")}
    return Webhook(
        part.message_id,
        after_seconds,
        "POST",
        STATUS_PATH,
        body=_compact(fields).encode(),
        content_type="application/json",
    )


def sms_send(
    account: str, leg: Leg, ids: list[str], at_us: int, answer_us: int
) -> dict[str, object]:
    """The body of ``POST /sends`` for the SMS API: one message id per part."""
    messages = [
        {
            "to": leg.recipient,
            "message-id": message_id,
            "status": "0",
            "remaining-balance": "123.45670000",
            "message-price": leg.price,
            "network": leg.network,
            "client-ref": leg.client_ref,
        }
        for message_id in ids
    ]
    request = {
        "from": leg.sender,
        "to": leg.recipient,
        "text": leg.text,
        "client-ref": leg.client_ref,
    }
    body = {"message-count": str(len(ids)), "messages": messages}
    return _send("sms", account, request, 200, body, at_us, answer_us)


def messages_send(
    account: str, leg: Leg, message_id: str, at_us: int, answer_us: int
) -> dict[str, object]:
    """The body of ``POST /sends`` for the Messages API v1: one id, whatever the parts."""
    request = {
        "message_type": "text",
        "channel": leg.channel,
        "from": leg.sender,
        "to": leg.recipient,
        "text": leg.text,
        "client_ref": leg.client_ref,
    }
    return _send("messages", account, request, 202, {"message_uuid": message_id}, at_us, answer_us)


def _send(
    api: str,
    account: str,
    request: dict[str, str],
    status_code: int,
    body: Mapping[str, object],
    at_us: int,
    answer_us: int,
) -> dict[str, object]:
    return {
        "api": api,
        "account": account,
        "request": request,
        "answer": {"status": status_code, "body": body},
        "requested_at": _rfc3339(at_us - answer_us),
        "answered_at": _rfc3339(at_us),
    }


def _moment(at_us: int, after_seconds: float) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us, seconds=after_seconds)


def _rfc3339(at_us: int) -> str:
    return _moment(at_us, 0.0).isoformat().replace("+00:00", "Z")


def _compact(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":"))
