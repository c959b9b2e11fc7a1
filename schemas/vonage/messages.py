"""Messages API v1: status webhooks, and what a send and its answer say (FACTS sections 3 and 9)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

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

_NOTHING: dict[str, Any] = {}


class Shape(Struct, gc=False):
    """The keys that tell what a Messages webhook is. Any value is let in: an odd one makes its
    field unknown, nothing more."""

    message_uuid: Any = None
    status: Any = None
    to: Any = None
    sender: Any = field(default=None, name="from")
    channel: Any = None
    message: Any = None
    message_type: Any = None
    text: Any = None


class _Status(Shape, gc=False):
    """The other keys in use."""

    timestamp: Any = None
    error: Any = None
    usage: Any = None
    client_ref: Any = None
    destination: Any = None
    sms: Any = None
    workflow: Any = None


_decode = msgspec.json.Decoder(_Status).decode


def status_of(shape: Shape) -> tuple[str, str]:
    """Id and status, if this is a v1 status. Raises NotUnderstoodError that says what it is.

    A status has a ``status``; v0.1 has objects for ``to`` and ``from`` and no ``channel``; an
    inbound message has neither status, and v0.1 puts it in ``message`` (FACTS section 1).
    """
    uuid = message_id(shape.message_uuid)
    status = text(shape.status) if type(shape.status) is str else None
    if status is not None:
        if type(shape.to) is dict or type(shape.sender) is dict:
            raise NotUnderstoodError(Reason.MESSAGES_V01_STATUS)
        return uuid, status.strip().lower()
    if type(shape.message) is dict:
        raise NotUnderstoodError(Reason.MESSAGES_V01_INBOUND)
    if shape.message_type is not None or shape.text is not None:
        raise NotUnderstoodError(Reason.MESSAGES_V1_INBOUND)
    raise NotUnderstoodError(Reason.NO_STATUS)


def decode_status(body: bytes, arrival: Arrival) -> Event:
    """The event of a v1 status. Raises NotUnderstoodError for what is none."""
    given = from_json(_decode, body)
    uuid, status = status_of(given)
    at_us, step_us = provider_time(given.timestamp)
    usage = _object(given.usage)
    error_code, error_title, error_instance = _error(given.error)
    return Event(
        uuid,
        Fact(
            kind="status",
            status=status,
            code=error_code,
            account=arrival.account or "",
            arrived_at_us=arrival.at_us,
            provider_at_us=at_us,
            provider_step_us=step_us,
            api="messages",
            channel=text(given.channel),
            sender=address(given.sender),
            recipient=address(given.to),
            network=text(_object(given.destination).get("network_code")),
            client_ref=text(given.client_ref, CLIENT_REF_LENGTH),
            price_units=price(usage.get("price")),
            currency=text(usage.get("currency")),
            segments=_segments(_object(given.sms)),
            workflow_id=_workflow_id(_object(given.workflow)),
            error_title=error_title,
            error_instance=error_instance,
        ),
    )


def _object(value: object) -> dict[str, Any]:
    return value if type(value) is dict else _NOTHING


def _segments(sms: dict[str, Any]) -> int | None:
    """``count_total`` (the specification) or ``total_count`` (the page on segments), or a list."""
    if not sms:
        return None
    for name in ("count_total", "total_count"):
        count = whole(sms.get(name))
        if count is not None:
            return count
    parts = sms.get("segments")
    return len(parts) if type(parts) is list else None


def _workflow_id(workflow: dict[str, Any]) -> str | None:
    """``workflow_id`` (the specification) or ``id`` (the Java SDK)."""
    if not workflow:
        return None
    return text(workflow.get("workflow_id")) or text(workflow.get("id"))


def _error(value: object) -> tuple[str, str | None, str | None]:
    """Code, text and instance of ``error``.

    ``title`` is the code as a string or a number; where it is text, the fragment of ``type`` has
    it. An early revision had ``code`` and ``reason``, and one SDK's fixture nests a second
    ``error`` (FACTS section 3).
    """
    error = _object(value)
    if not error:
        return "", None, None
    error = _object(error.get("error")) or error
    title = text(error.get("title"))
    detail = text(error.get("detail")) or text(error.get("reason"))
    instance = text(error.get("instance"))
    if title is not None and whole(title.strip()) is not None:
        return code(title), detail, instance
    if whole(error.get("code")) is not None:
        return code(error.get("code")), title or detail, instance
    return problem_code(error.get("type")), title or detail, instance


def problem_code(problem_type: object) -> str:
    """``https://.../api-errors/messages#1150`` to ``1150``; ``""`` where the fragment is a word."""
    fragment = (text(problem_type) or "").rpartition("#")[2]
    return code(fragment) if whole(fragment) is not None else ""


def sends(exchange: Exchange) -> list[Send]:
    """The send that an API call and its answer make: one, whatever the segments.

    Accepted is 202 with an id. Without one (refused, or no answer at all) the message id is
    ``<send_id>.1`` (RULES section 2).
    """
    request, answer = exchange.request, _object(exchange.answer)
    status = exchange.answer_status
    refused = status is not None and status >= 400
    uuid = None if refused else known_id(answer.get("message_uuid"))
    ttl_seconds = whole(request.get("ttl"))
    return [
        Send(
            message_id=uuid or f"{exchange.send_id}.1",
            send_id=exchange.send_id,
            api="messages",
            arrived_at_us=exchange.arrived_at_us,
            account=exchange.account,
            channel=text(request.get("channel")),
            sender=address(request.get("from")),
            recipient=address(request.get("to")),
            client_ref=text(request.get("client_ref"), CLIENT_REF_LENGTH),
            answer_status=None if status is None else str(status),
            refused=refused,
            error_text=_problem(answer) if refused else None,
            requested_at_us=exchange.requested_at_us,
            answered_at_us=exchange.answered_at_us,
            ttl_ms=None if ttl_seconds is None else ttl_seconds * 1000,
        )
    ]


def _problem(answer: dict[str, Any]) -> str | None:
    """``#1150 title: detail`` of a problem body, where ``title`` is text (FACTS section 9)."""
    number = problem_code(answer.get("type"))
    words = ": ".join(filter(None, (text(answer.get("title")), text(answer.get("detail")))))
    return text(f"#{number} {words}".strip() if number else words)
