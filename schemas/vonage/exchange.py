"""One API call as it was captured: what was asked of Vonage, what it answered, and the sends that
follow from both.

Text and credentials, which a request may hold, are never among the fields that are read.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from schemas.events import AnswerKind, Api, Send, Version

# A gateway gave up: Vonage may have the message all the same (docs/rules.md 2).
_GATEWAY_GAVE_UP = frozenset({502, 504})


class Exchange(Struct, frozen=True, kw_only=True):
    """Input of the parsers of sends."""

    send_id: str
    arrived_at_us: int
    request: dict[str, Any]
    answer_status: int | None  # HTTP; None: no answer came, the message may be on its way
    answer: Any  # parsed JSON, or what else came: an XML answer as text
    account: str | None = None
    application: str | None = None
    host: str | None = None
    requested_at_us: int | None = None
    answered_at_us: int | None = None


class Request(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was asked for, without text and credentials."""

    api: Api
    version: Version | None = None
    claimed_account: str | None = None
    channel: str | None = None
    sender: str | None = None
    recipient: str | None = None
    client_ref: str | None = None
    message_type: str | None = None
    encoding: str | None = None
    ttl_ms: int | None = None
    receipt_expected: bool = True
    callback_host: str | None = None
    message_class: int | None = None
    pool_id: str | None = None
    entity_id: str | None = None
    content_id: str | None = None
    template: str | None = None
    failover_items: int | None = None


class Part(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What an answer says of one message."""

    kind: AnswerKind
    message_id: str | None = None  # none where it was refused, or Vonage gave an empty one
    status: str | None = None  # SMS API status, or the HTTP status of the Messages API
    recipient: str | None = None
    client_ref: str | None = None
    network: str | None = None
    price_units: int | None = None
    balance_units: int | None = None
    error_code: str | None = None
    error_text: str | None = None
    error_instance: str | None = None
    workflow_id: str | None = None


def unread(http_status: int | None) -> AnswerKind:
    """What an answer is of which nothing is known but its HTTP status."""
    if http_status is None or http_status in _GATEWAY_GAVE_UP:
        return "unanswered"
    if http_status == 429:
        return "throttled"
    return "refused" if http_status >= 400 else "unreadable"


def sends(exchange: Exchange, request: Request, parts: list[Part]) -> list[Send]:
    """One send per message of the answer: parts of a long text, or several recipients.

    Messages are parts of one send only where their recipient agrees; each further recipient gets a
    send id of its own, ``<send_id>-2`` and so on. Without an id of Vonage's the message id is
    ``<send_id>.<part>`` (docs/rules.md 2).
    """
    groups: dict[str | None, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.recipient or request.recipient, []).append(part)
    result = []
    for group_number, group in enumerate(groups.values(), start=1):
        send_id = exchange.send_id if group_number == 1 else f"{exchange.send_id}-{group_number}"
        for number, part in enumerate(group, start=1):
            send = _send(exchange, request, part, send_id)
            result.append(replace(send, part=number, parts=len(group)))
    return [_with_id(send) for send in result]


def _with_id(send: Send) -> Send:
    return send if send.message_id else replace(send, message_id=f"{send.send_id}.{send.part}")


def _send(exchange: Exchange, request: Request, part: Part, send_id: str) -> Send:
    return Send(
        message_id=part.message_id or "",
        send_id=send_id,
        api=request.api,
        version=request.version,
        arrived_at_us=exchange.arrived_at_us,
        account=exchange.account or request.claimed_account,
        application=exchange.application,
        host=exchange.host,
        channel=request.channel,
        sender=request.sender,
        recipient=part.recipient or request.recipient,
        client_ref=request.client_ref or part.client_ref,
        network=part.network,
        price_units=part.price_units,
        balance_units=part.balance_units,
        answer=part.kind,
        answer_status=part.status,
        http_status=exchange.answer_status,
        refused=part.kind in ("refused", "throttled"),
        error_code=part.error_code,
        error_text=part.error_text,
        error_instance=part.error_instance,
        requested_at_us=exchange.requested_at_us,
        answered_at_us=exchange.answered_at_us,
        ttl_ms=request.ttl_ms,
        receipt_expected=request.receipt_expected,
        workflow_id=part.workflow_id,
        failover_items=request.failover_items,
        callback_host=request.callback_host,
        message_type=request.message_type,
        encoding=request.encoding,
        message_class=request.message_class,
        pool_id=request.pool_id,
        entity_id=request.entity_id,
        content_id=request.content_id,
        template=request.template,
    )
