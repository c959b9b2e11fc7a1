"""Messages API: what a send asks for and what the answer says, v1 and v0.1 (docs/vonage.md 9).

The ttl is in seconds here and in milliseconds in the SMS API: the trap of the two.
"""

from __future__ import annotations

from typing import Any

from schemas.events import Send
from schemas.vonage import exchange as calls
from schemas.vonage.exchange import Exchange, Part, Request
from schemas.vonage.fields import (
    address,
    channel,
    hostname,
    ident,
    known_id,
    mapping,
    reference,
    whole,
    word,
)
from schemas.vonage.problem import NO_PROBLEM, is_problem, problem


def request(body: dict[str, Any]) -> Request:
    """A request of either version. v0.1 has objects for ``to`` and ``from``."""
    is_old = type(body.get("to")) is dict or type(body.get("from")) is dict
    message = mapping(body.get("message"))
    content = mapping(message.get("content")) if is_old else body
    sms = mapping(body.get("sms"))
    failover = body.get("failover")
    to = mapping(body.get("to"))
    return Request(
        api="messages",
        version="v0.1" if is_old else "v1",
        channel=channel(to.get("type") if is_old else body.get("channel")),
        sender=_party(body.get("from")),
        recipient=_party(body.get("to")),
        client_ref=reference(body.get("client_ref")),
        message_type=word(content.get("type") if is_old else body.get("message_type")),
        encoding=word(sms.get("encoding_type")),
        ttl_ms=_ttl_ms(body, message),
        callback_host=hostname(body.get("webhook_url")),
        pool_id=ident(sms.get("pool_id")) or ident(body.get("pool_id")),
        entity_id=ident(sms.get("entity_id")),
        content_id=ident(sms.get("content_id")),
        template=ident(mapping(content.get("template")).get("name")),
        failover_items=len(failover) if type(failover) is list and failover else None,
    )


def _party(value: object) -> str | None:
    if type(value) is not dict:
        return address(value)
    return address(value.get("number")) or address(value.get("id"))


def _ttl_ms(body: dict[str, Any], message: dict[str, Any]) -> int | None:
    """Seconds at the top, for Viber in its own object, where v0.1 has it one level deeper."""
    for place in (
        body,
        mapping(body.get("viber_service")),
        mapping(message.get("viber_service_msg")),
    ):
        seconds = whole(place.get("ttl"))
        if seconds is not None:
            return min(seconds, 10**12) * 1000
    return None


def answer(http_status: int | None, body: object) -> Part:
    """Accepted is 202 with an id; with failover it has a workflow's id too.

    An id that is an object with a problem in it is in one old specification.
    """
    given = mapping(body)
    status = None if http_status is None else str(http_status)
    kind = calls.unread(http_status)
    uuid = known_id(given.get("message_uuid"))
    if uuid is not None and (http_status is None or http_status < 400):
        kind = "accepted"
        return Part(
            kind=kind, message_id=uuid, status=status, workflow_id=ident(given.get("workflow_id"))
        )
    inner = mapping(given.get("message_uuid"))
    told = problem(inner or given) if inner or is_problem(given) else NO_PROBLEM
    if told is not NO_PROBLEM and kind in ("unanswered", "unreadable"):
        kind = "refused"
    return Part(
        kind=kind,
        status=status,
        error_code=told.code,
        error_text=told.text,
        error_instance=told.instance,
    )


def sends(exchange: Exchange) -> list[Send]:
    """The send that an API call and its answer make: one, whatever the segments."""
    part = answer(exchange.answer_status, exchange.answer)
    return calls.sends(exchange, request(exchange.request), [part])
