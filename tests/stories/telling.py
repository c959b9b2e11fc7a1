"""The words in which the stories are told: calls, webhooks and what they have in common.

A story has raw requests, answers and webhooks, at seconds after :data:`START_US`; the bytes are as
Vonage sends them. ``until_s`` is how long the world goes on in silence. Expected is everything that
a summary says beside its defaults. Times in expectations are seconds too: see ``us``.
"""

from __future__ import annotations

import json
from typing import Any, Literal
from urllib.parse import urlencode

from msgspec import Struct

from schemas.numbers import iso_us

START_US = 1_795_323_600_000_000  # 2026-11-22T05:00:00Z
HOUR = 3_600


class Sent(Struct, frozen=True, kw_only=True):
    """An API call, as the capture proxy saw it. ``answer_status`` None: no answer came."""

    at_s: float
    api: Literal["messages", "sms", "alerts"]
    send_id: str
    request: dict[str, Any]
    answer_status: int | None
    answer: Any
    account: str = "abcd1234"
    answered_s: float = 0  # by our clock; the record of it comes at ``at_s``
    took_s: float = 0.25


class Webhook(Struct, frozen=True, kw_only=True):
    """A webhook that the edge took. ``account``: whose signature it had, "" for none."""

    at_s: float
    path: Literal["/webhooks/status", "/webhooks/dlr"]
    content_type: str
    body: bytes
    account: str = "abcd1234"


class Story(Struct, frozen=True, kw_only=True):
    name: str
    tale: str
    steps: tuple[Sent | Webhook, ...]
    until_s: float = HOUR
    messages: dict[str, dict[str, Any]]
    rollups: dict[str, dict[str, Any]] = {}


def us(second: float) -> int:
    return START_US + int(second * 1_000_000)


def status(at_s: float, body: dict[str, Any], account: str = "abcd1234") -> Webhook:
    """A status of the Messages API v1; ``timestamp`` is given in seconds."""
    told = {**body, "timestamp": iso_us(us(body["timestamp"]))[:19] + "Z"}
    return Webhook(
        at_s=at_s, path="/webhooks/status", content_type="application/json",
        body=json.dumps(told).encode(), account=account,
    )  # fmt: skip


def receipt(at_s: float, fields: dict[str, Any]) -> Webhook:
    """A receipt of the SMS API as a form; ``message-timestamp`` is given in seconds."""
    pushed = iso_us(us(fields["message-timestamp"]))[:19].replace("T", " ")
    told = {**fields, "message-timestamp": pushed}
    return Webhook(
        at_s=at_s, path="/webhooks/dlr",
        content_type="application/x-www-form-urlencoded; charset=UTF-8",
        body=urlencode(told).encode(), account="",
    )  # fmt: skip


def chat_status(uuid: str, word: str, at_s: float, **more: Any) -> dict[str, Any]:
    return {
        "message_uuid": uuid, "to": "447400123456", "from": "Acme", "channel": "whatsapp",
        "status": word, "timestamp": at_s, **more,
    }  # fmt: skip


def sms_status(uuid: str, word: str, at_s: float, **more: Any) -> dict[str, Any]:
    return {
        "message_uuid": uuid, "to": "447400123456", "from": "Acme", "channel": "sms",
        "status": word, "timestamp": at_s, "usage": {"currency": "EUR", "price": "0.0333"},
        "destination": {"network_code": "23410"}, "sms": {"count_total": "1"}, **more,
    }  # fmt: skip


def dlr(message_id: str, word: str, at_s: float, code: str = "0") -> dict[str, Any]:
    return {
        "msisdn": "447400123456", "to": "Acme", "network-code": "23410", "messageId": message_id,
        "price": "0.03330000", "status": word, "scts": "2611220500", "err-code": code,
        "api-key": "abcd1234", "message-timestamp": at_s,
    }  # fmt: skip


def sent_sms(uuid: str = "sms-1", at_s: float = 0, **more: Any) -> Sent:
    request = {
        "channel": "sms", "to": "447400123456", "from": "Acme", "text": "never kept",
        "message_type": "text", **more,
    }  # fmt: skip
    return Sent(
        at_s=at_s, api="messages", send_id=f"send-{uuid}", request=request,
        answer_status=202, answer={"message_uuid": uuid},
    )  # fmt: skip


def part(number: str, status: str = "0") -> dict[str, str]:
    return {
        "to": "447400123456", "message-id": f"part-{number}", "status": status,
        "remaining-balance": "10.00", "message-price": "0.04", "network": "23410",
    }  # fmt: skip


# What every message of these stories says of itself, and every send that was accepted.
WHOSE = {
    "account": "abcd1234", "channel": "sms", "sender": "Acme", "recipient": "447400123456",
    "country": "GB",
}  # fmt: skip
ACCEPTED = {
    "answer": "accepted", "answer_status": "202", "receipt_expected": True,
    "sent_at_us": us(-0.25), "send_clock": "ours", "accept_latency_ms": 250,
}  # fmt: skip
PART = {**WHOSE, **ACCEPTED, "api": "sms", "answer_status": "0", "network_estimated": "23410",
        "estimate_units": 4_000_000}  # fmt: skip
PRICED = {
    "cost_units": 3_330_000, "currency": "EUR", "currency_source": "field", "cost_source": "event",
}  # fmt: skip
