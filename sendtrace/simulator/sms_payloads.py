"""The SMS API and the Alerts API as templates: answers, receipts and inbound messages.

Written from the documented examples, by hand. Must not import ``schemas.vonage``: what the parser
misunderstands must not be misunderstood here in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

from sendtrace.simulator.parties import Leg
from sendtrace.simulator.webhook import Api, Shape, Told, Webhook, moment, send_record

AnswerFormat = Literal["json", "xml"]

# SMS API statuses of messages that were not taken, with their texts (docs/vonage.md 9).
REFUSALS = (
    ("1", "Throughput Rate Exceeded - please wait [ 702 ] and retry"),
    ("1", "Throttled"),
    ("9", "Quota Exceeded - rejected"),
    ("15", "Illegal Sender Address - rejected"),
)
ALERT_REFUSALS = (("101", "Invalid Account for Campaign"),)
# The names that JSON has with hyphens, in the order of Vonage's XML.
_XML_NAMES = {
    "to": "to",
    "message-id": "messageId",
    "status": "status",
    "remaining-balance": "remainingBalance",
    "message-price": "messagePrice",
    "network": "network",
    "client-ref": "clientRef",
    "error-text": "errorText",
}


@dataclass(frozen=True)
class Item:
    """One message of an answer. Without an id it was refused, and ``status`` says why."""

    message_id: str | None
    status: str = "0"
    error_text: str = ""


def receipt(leg: Leg, message_id: str, told: Told, shape: Shape, api: Api = "sms") -> Webhook:
    """A delivery receipt: flat strings, ``to`` is the sender, no zone in times.

    One of the Alerts API names no account. Without a code there is no ``err-code``.
    """
    when = moment(told.at_us)
    timestamp = when.strftime("%Y-%m-%d %H:%M:%S")
    if told.has_backslashes:
        timestamp = "\\" + timestamp.replace(" ", "\\ ")
    fields = {
        "msisdn": leg.recipient,
        "to": leg.sender,
        "network-code": leg.network.code,
        "messageId": message_id,
        "price": leg.price,
        "status": told.status,
        "scts": when.strftime("%y%m%d%H%M"),
        "err-code": told.code,
        "api-key": leg.account if api == "sms" else "",
        "client-ref": leg.client_ref,
        "message-timestamp": timestamp,
    }
    given = {key: value for key, value in fields.items() if value}
    return Webhook(
        message_id, leg.account, api, "delivery-receipt", shape, told.after_seconds, given
    )


def inbound(
    leg: Leg, ids: list[str], reference: int, at_us: int, after_seconds: float, shape: Shape
) -> list[Webhook]:
    """A message that came in; a long one in parts, each with an id of its own."""
    size = -(-len(leg.text) // len(ids))
    webhooks = []
    for index, message_id in enumerate(ids):
        text = leg.text[index * size : (index + 1) * size]
        fields = {
            "api-key": leg.account,
            # The other way round than in a receipt: msisdn is who wrote.
            "msisdn": leg.recipient,
            "to": leg.sender,
            "messageId": message_id,
            "text": text,
            "type": "text",
            "keyword": text.split()[0].upper(),
            "message-timestamp": moment(at_us, after_seconds).strftime("%Y-%m-%d %H:%M:%S"),
        }
        if len(ids) > 1:
            fields |= {
                "concat": "true",
                "concat-ref": str(reference),
                "concat-total": str(len(ids)),
                "concat-part": str(index + 1),
            }
        webhooks.append(
            Webhook(message_id, leg.account, "sms", "inbound", shape, after_seconds, fields)
        )
    return webhooks


def send(
    leg: Leg,
    items: list[Item] | None,
    times_us: tuple[int, int],
    send_id: str | None,
    answer_format: AnswerFormat,
    is_tracked: bool,
    ttl_seconds: int | None = None,
) -> dict[str, object]:
    """The body of ``POST /sends`` for the SMS API: one message id per part. Without items no
    answer came."""
    fields = {
        "from": leg.sender,
        "to": leg.recipient,
        "text": leg.text,
        "client-ref": leg.client_ref,
    }
    if not is_tracked:
        fields["status-report-req"] = "false"
    if ttl_seconds is not None:
        fields["ttl"] = str(ttl_seconds * 1000)  # in milliseconds here
    answer = None if items is None else (200, _answer(leg, items, answer_format))
    return send_record("sms", leg.account, fields, answer, times_us, send_id)


def alert_send(
    leg: Leg,
    item: Item | None,
    times_us: tuple[int, int],
    send_id: str | None,
    answer_format: AnswerFormat,
    is_tracked: bool,
) -> dict[str, object]:
    """The body of ``POST /sends`` for the Alerts API: a template, and a receipt if asked for."""
    fields = {
        "to": leg.recipient,
        "template": "0",
        "client-ref": leg.client_ref,
        "server": "host3",
        "link": "https://example.com/host3/mon",
    }
    if is_tracked:
        fields["status-report-req"] = "1"
    answer = None if item is None else (200, _answer(leg, [item], answer_format))
    return send_record("alerts", leg.account, fields, answer, times_us, send_id)


def _answer(leg: Leg, items: list[Item], answer_format: AnswerFormat) -> object:
    messages = [_message(leg, item) for item in items]
    if answer_format == "json":
        return {"message-count": str(len(messages)), "messages": messages}
    return _xml(messages)


def _message(leg: Leg, item: Item) -> dict[str, str]:
    if item.message_id is None:
        # As captured: neither an id nor a recipient (docs/vonage.md 8).
        return {"status": item.status, "error-text": item.error_text}
    return {
        "to": leg.recipient,
        "message-id": item.message_id,
        "status": item.status,
        "remaining-balance": "123.45670000",
        "message-price": leg.estimate,
        "network": leg.network.code,
        "client-ref": leg.client_ref,
    }


def _xml(messages: list[dict[str, str]]) -> str:
    lines = ["<?xml version='1.0' encoding='UTF-8' ?>", "<mt-submission-response>"]
    lines.append(f"    <messages count='{len(messages)}'>")
    for message in messages:
        lines.append("        <message>")
        for name, element in _XML_NAMES.items():
            if name in message:
                lines.append(f"            <{element}>{escape(message[name])}</{element}>")
        lines.append("        </message>")
    return "\n".join([*lines, "    </messages>", "</mt-submission-response>", ""])
