"""SMS API and Alerts API: what a send asks for and what the answer says, in JSON or XML.

HTTP is 200 even on errors; each message of the answer has its own status (docs/vonage.md 9). The
Alerts API has a template in place of a text, no sender, and no receipt unless it is asked for.
"""

from __future__ import annotations

from typing import Any, Literal

from schemas.events import AnswerKind, Send
from schemas.vonage import exchange as calls
from schemas.vonage.answer_xml import is_xml, parse_answer
from schemas.vonage.exchange import Exchange, Part, Request
from schemas.vonage.fields import (
    address,
    hostname,
    ident,
    known_id,
    mapping,
    price,
    reference,
    text,
    whole,
    word,
)
from schemas.vonage.problem import is_problem, problem
from schemas.vonage.reasons import NotUnderstoodError

_NO = frozenset({"0", "false", "no"})
_YES = frozenset({"1", "true", "yes"})


def request(body: dict[str, Any], api: Literal["sms", "alerts"] = "sms") -> Request:
    """A request from a query, a form or JSON. ``text`` and ``body`` are content, and not read."""
    get = body.get
    asked = _flag(get("status-report-req"))
    return Request(
        api=api,
        claimed_account=word(get("api_key")) or word(get("username")),
        channel="sms",
        sender=address(get("from")),
        recipient=address(get("to")),
        client_ref=reference(get("client-ref")),
        encoding=word(get("type")),
        ttl_ms=whole(get("ttl")) if get("ttl") is not None else whole(get("validity")),
        receipt_expected=asked in _YES if api == "alerts" else asked not in _NO,
        callback_host=hostname(get("callback")),
        message_class=_message_class(get("message-class")),
        pool_id=ident(get("pool-id")),
        entity_id=ident(get("entity-id")),
        content_id=ident(get("content-id")),
        template=ident(get("template")),
    )


def _flag(value: object) -> str | None:
    if type(value) is bool:
        return "1" if value else "0"
    given = word(value)
    return None if given is None else given.strip().lower()


def _message_class(value: object) -> int | None:
    number = whole(value)
    return number if number is not None and number < 256 else None


def answer(http_status: int | None, body: object) -> list[Part]:
    """A part per message. Without a readable one: a single part that says what HTTP says."""
    given = _body(body)
    messages = given.get("messages")
    # One old specification has an object where there is one message.
    items = messages if type(messages) is list else [messages]
    parts = [_part(item) for item in items if type(item) is dict]
    return parts or [_unread(http_status, given)]


def _body(body: object) -> dict[str, Any]:
    if is_xml(body):
        try:
            return parse_answer(str(body))
        except NotUnderstoodError:
            return {}
    return mapping(body)


def _unread(http_status: int | None, given: dict[str, Any]) -> Part:
    kind = calls.unread(http_status)
    told = problem(given) if is_problem(given) else None
    if told is not None and kind in ("unanswered", "unreadable"):
        kind = "refused"
    is_refused = http_status is not None and kind in ("refused", "throttled")
    return Part(
        kind=kind,
        status=f"http-{http_status}" if is_refused else None,
        error_code=told.code if told else None,
        error_text=told.text if told else None,
        error_instance=told.instance if told else None,
    )


def _part(item: dict[str, Any]) -> Part:
    """JSON has hyphens, XML has camel case, and an old fixture of the Alerts API has both."""
    get = item.get
    status = word(get("status"))
    return Part(
        kind=_kind(status),
        message_id=known_id(_first(get("message-id"), get("messageId"))),
        status=status,
        recipient=address(_first(get("to"), get("msisdn"))),
        client_ref=reference(_first(get("client-ref"), get("clientRef"))),
        network=word(get("network")),
        price_units=price(_first(get("message-price"), get("messagePrice"))),
        balance_units=price(_first(get("remaining-balance"), get("remainingBalance"))),
        error_text=text(_first(get("error-text"), get("errorText"))),
    )


def _first(one: object, other: object) -> object:
    return other if one is None or one == "" else one


def _kind(status: str | None) -> AnswerKind:
    """0 is yes and any other number no. What is no number (a template, a test's) says neither."""
    number = whole(status)
    if number is None:
        return "unreadable"
    if number == 0:
        return "accepted"
    return "throttled" if number == 1 else "refused"


def sends(exchange: Exchange) -> list[Send]:
    """One send per message of an answer of the SMS API."""
    parts = answer(exchange.answer_status, exchange.answer)
    return calls.sends(exchange, request(exchange.request), parts)


def alert_sends(exchange: Exchange) -> list[Send]:
    """The same for the Alerts API."""
    parts = answer(exchange.answer_status, exchange.answer)
    return calls.sends(exchange, request(exchange.request, "alerts"), parts)
