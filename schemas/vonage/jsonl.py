"""``sendtrace decode --jsonl``: a body a line in, what it says a line out. It fails on no line.

In: ``{"format": "json|form|query|xml", "body": "...", "hint": "status|receipt|inbound|alerts|send"
or null}``. Out: ``{"kind": "status|receipt|inbound", "api": ..., "message_id": ..., ...}``, for
API calls ``send_request``, ``send_update``, ``send_answer`` or ``error``, else
``{"kind": "quarantine", "reason": ...}`` with a reason of the table.

The hint says what to look for. The content decides: a status among inbound messages is a status.
Without a hint, what only an API call has is told from webhooks by its content too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct, to_builtins

from schemas import topics
from schemas.events import Arrival, Event, Inbound
from schemas.vonage import messages_send, sms_send
from schemas.vonage.answer_xml import is_xml, parse_answer
from schemas.vonage.decode import inbound
from schemas.vonage.detect import tell
from schemas.vonage.exchange import Part, Request
from schemas.vonage.fields import word
from schemas.vonage.messages import decode_status
from schemas.vonage.problem import is_problem, problem
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sms import FORM, decode_receipt, parse_fields

Format = Literal["json", "form", "query", "xml"]
Hint = Literal["status", "receipt", "inbound", "alerts", "send", "null"]


class Line(Struct, frozen=True):
    """One line of input."""

    format: Format
    body: str
    hint: Hint | None = None


_decode_line = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode
# No request of the SMS API has these: it is somebody's odd webhook.
_WEBHOOK_KEYS = frozenset({"messageId", "msisdn"})
# No edge saw these: they have no time of arrival.
_ARRIVAL = Arrival(0)
_CONTENT_TYPES: dict[Format, str] = {
    "json": "application/json",
    "form": FORM,
    "query": FORM,
    "xml": "text/xml",
}


def decode_line(line: bytes) -> bytes:
    """One line out for one line in, without its newline."""
    try:
        given = _decode_line(line)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return _encode(_quarantine(Reason.LINE))
    return _encode(normalise(given))


def normalise(line: Line) -> dict[str, Any]:
    """The normalised event, or a quarantine with its reason."""
    try:
        return _READERS[line.hint](line)
    except NotUnderstoodError as error:
        return _quarantine(error.reason)


def _quarantine(reason: Reason) -> dict[str, Any]:
    return {"kind": "quarantine", "reason": reason.value}


def _webhook(line: Line) -> dict[str, Any]:
    content_type, raw = _CONTENT_TYPES[line.format], _raw(line)
    topic = tell(raw, content_type).topic
    if topic == topics.STATUSES:
        return _event(decode_status(raw, _ARRIVAL))
    if topic == topics.RECEIPTS:
        return _event(decode_receipt(raw, content_type, _ARRIVAL))
    return _inbound(inbound(raw, content_type, _ARRIVAL))


def _raw(line: Line) -> bytes:
    """Lone surrogates cannot be in it: the line was UTF-8. A query may begin with its mark."""
    body = line.body.removeprefix("?") if line.format == "query" else line.body
    return body.encode()


def _event(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = to_builtins(event.fact)
    del fields["arrived_at_us"]
    head = {"kind": fields.pop("kind"), "api": fields.pop("api"), "message_id": event.message_id}
    return head | fields


def _inbound(event: Inbound) -> dict[str, Any]:
    fields = to_builtins(event)
    del fields["arrived_at_us"]
    return {"kind": "inbound", "api": fields.pop("api"), **fields}


def _call(line: Line, preferred: Literal["sms", "alerts"] = "sms") -> dict[str, Any]:
    """A request or an answer of any API. Raises NotUnderstoodError for what is neither."""
    if line.format == "xml" or is_xml(line.body):
        return _answer(preferred, sms_send.answer(None, parse_answer(line.body)))
    body = parse_fields(_raw(line), _CONTENT_TYPES[line.format])
    if "messages" in body:
        return _answer(preferred, sms_send.answer(None, body))
    if "message_uuid" in body:
        return _answer("messages", [messages_send.answer(None, body)])
    if is_problem(body):
        return _error(body)
    if "channel" in body or type(body.get("to")) is dict:
        return _request(messages_send.request(body))
    if "to" in body and not _WEBHOOK_KEYS & body.keys():
        return _request(sms_send.request(body, preferred))
    update = word(body.get("status"))
    if update is not None:
        return {"kind": "send_update", "api": "messages", "status": update.lower()}
    raise NotUnderstoodError(Reason.NO_SEND)


def _answer(api: str, parts: list[Part]) -> dict[str, Any]:
    """The first message's fields at the top, all of them in ``messages``."""
    messages = [_part(part) for part in parts]
    result = {"kind": "send_answer", "api": api} | messages[0]
    return result | {"messages": messages} if len(parts) > 1 else result


def _part(part: Part) -> dict[str, Any]:
    fields: dict[str, Any] = to_builtins(part)
    kind = fields.pop("kind")
    # An answer did come, though no HTTP status is known here.
    answer = "unreadable" if kind == "unanswered" else kind
    return {"message_id": fields.pop("message_id", None), "answer": answer, **fields}


def _request(request: Request) -> dict[str, Any]:
    fields = to_builtins(request)
    return {"kind": "send_request", "api": fields.pop("api"), "message_id": None, **fields}


def _error(body: dict[str, Any]) -> dict[str, Any]:
    api = "messages" if "type" in body else "sms"
    return {"kind": "error", "api": api, "message_id": None, **to_builtins(problem(body))}


def _send(line: Line) -> dict[str, Any]:
    return _call(line)


def _alerts(line: Line) -> dict[str, Any]:
    """A receipt, an answer or a request of the Alerts API: here the reader says whose it is."""
    try:
        found = _webhook(line)
    except NotUnderstoodError as error:
        return _call_or(line, "alerts", error)
    return found | {"api": "alerts"} if found["kind"] == "receipt" else found


def _any(line: Line) -> dict[str, Any]:
    try:
        return _webhook(line)
    except NotUnderstoodError as error:
        return _call_or(line, "sms", error)


def _call_or(
    line: Line, preferred: Literal["sms", "alerts"], error: NotUnderstoodError
) -> dict[str, Any]:
    """A call, if it can be nothing else; what the webhook's reader said is the better reason."""
    try:
        found = _call(line, preferred)
    except NotUnderstoodError:
        raise error from None
    # A status is what webhooks have, too.
    if found["kind"] == "send_update":
        raise error
    return found


# A hint of "null" is none: the word is one of the list that people copy.
_READERS: dict[Hint | None, Callable[[Line], dict[str, Any]]] = {
    "status": _webhook,
    "receipt": _webhook,
    "inbound": _webhook,
    "alerts": _alerts,
    "send": _send,
    None: _any,
    "null": _any,
}
