"""Bodies of API calls: which parser an API has, and how request and answer bytes are read.

``POST /sends`` and the capture proxy hand over what they saw as an :class:`Exchange`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from schemas.events import Send
from schemas.vonage import messages_send, sms_send
from schemas.vonage.exchange import Exchange
from schemas.vonage.fields import from_json
from schemas.vonage.reasons import NotUnderstoodError
from schemas.vonage.sms import parse_fields, parse_form

SentBy = Literal["messages", "sms", "alerts"]

PARSERS: Mapping[SentBy, Callable[[Exchange], list[Send]]] = {
    "messages": messages_send.sends,
    "sms": sms_send.sends,
    "alerts": sms_send.alert_sends,
}

_decode_any = msgspec.json.Decoder().decode


def request_fields(query: bytes, content_type: str | None, body: bytes) -> dict[str, Any]:
    """The parameters of a request: its body's, or the query's where it has none. The SMS and
    Alerts API take both; the Messages API takes JSON. Raises NotUnderstoodError."""
    return parse_fields(body, content_type) if body else parse_form(query)


def answer_body(body: bytes) -> Any:
    """What an exchange holds of an answer: parsed JSON, else its text (XML is read later).

    A mock answered 429 with the word Error, a proxy may answer with a page (docs/vonage.md 9).
    """
    try:
        return from_json(_decode_any, body)
    except NotUnderstoodError:
        return body.decode("utf-8", "replace")
