"""The body of ``POST /sends``: API calls as they were captured, and the records they make. Pure.

A call has the request (a JSON object, or a form or query as text) and the answer (JSON, or text
that is JSON or XML), or no answer where none came. Nothing that is refused is quoted.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from schemas.events import Send
from schemas.numbers import time_us
from schemas.vonage.exchange import Exchange
from schemas.vonage.fields import from_json
from schemas.vonage.reasons import NotUnderstoodError
from schemas.vonage.sends import PARSERS, SentBy, answer_body, request_fields
from schemas.vonage.sms import FORM

_Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
# No control characters: PostgreSQL refuses NUL, and none of these names has one.
_Name = Annotated[str, Meta(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]


class _Answer(Struct):
    status: Annotated[int, Meta(ge=100, le=599)]
    body: Raw = Raw(b"null")


class _Call(Struct):
    """One API call. ``answer`` is absent or null when none came: it may be on its way."""

    api: SentBy
    request: Raw
    answer: _Answer | None = None
    account: _Name | None = None
    application: _Name | None = None
    host: _Name | None = None
    requested_at: str | None = None
    answered_at: str | None = None
    send_id: _Id | None = None


class _Many(Struct):
    sends: list[_Call]


class Malformed(ValueError):
    """Not of the form of a send; the message says where and never what was there."""


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_list = msgspec.json.Decoder(list[_Call]).decode
_decode_many = msgspec.json.Decoder(_Many).decode
_decode_keys = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_text = msgspec.json.Decoder(str).decode


def parse(raw: bytes, now_us: int) -> list[Send]:
    """The records of one request body. Raises Malformed with a sentence."""
    try:
        calls = _calls(raw)
    except msgspec.ValidationError as error:
        raise Malformed(f"A send does not have the right form: {_where(error)}.") from None
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise Malformed("The body is not JSON.") from None
    return [send for index, call in enumerate(calls) for send in _records(call, index, now_us)]


def _calls(raw: bytes) -> list[_Call]:
    if raw.lstrip().startswith(b"["):
        return _decode_list(raw)
    if "sends" in _decode_keys(raw):
        return _decode_many(raw).sends
    return [_decode_call(raw)]


def _records(call: _Call, index: int, now_us: int) -> list[Send]:
    exchange = Exchange(
        send_id=call.send_id or _send_id(call),
        arrived_at_us=now_us,
        request=_request(call.request, index),
        answer_status=call.answer.status if call.answer else None,
        answer=_answer(call.answer.body, index) if call.answer else None,
        account=call.account or None,
        application=call.application or None,
        host=call.host or None,
        requested_at_us=_time(call.requested_at, index, "requested_at"),
        answered_at_us=_time(call.answered_at, index, "answered_at"),
    )
    try:
        return PARSERS[call.api](exchange)
    except NotUnderstoodError as error:
        raise Malformed(f"Send {index}: {error.reason.value}.") from None


def _request(raw: Raw, index: int) -> dict[str, Any]:
    """An object, or text: a form, a query, or JSON."""
    given = bytes(raw)
    try:
        if given.startswith(b'"'):
            return request_fields(b"", FORM, _text(given).removeprefix(b"?"))
        return from_json(_decode_object, given)
    except (NotUnderstoodError, msgspec.DecodeError, ValueError):
        raise Malformed(f"Send {index}: request is neither an object nor a form.") from None


def _answer(raw: Raw, index: int) -> Any:
    """JSON as a value, or the text of it or of XML."""
    given = bytes(raw)
    try:
        return answer_body(_text(given) if given.startswith(b'"') else given)
    except (msgspec.DecodeError, ValueError):
        raise Malformed(f"Send {index}: the answer's text is not text.") from None


def _text(json_text: bytes) -> bytes:
    return _decode_text(json_text).encode()


def _time(text: str | None, index: int, name: str) -> int | None:
    if text is None:
        return None
    read = time_us(text)
    if read is None:
        raise Malformed(f"Send {index}: {name} is not a time like 2025-02-03T12:14:25Z.")
    return read[0]


def _send_id(call: _Call) -> str:
    """Hash of account, request bytes, answer bytes and request time (docs/rules.md 2)."""
    status = str(call.answer.status) if call.answer else ""
    body = bytes(call.answer.body) if call.answer else b""
    digest = hashlib.blake2b(digest_size=16)
    for part in (
        call.api.encode(),
        (call.account or "").encode(),
        bytes(call.request),
        status.encode(),
        body,
        (call.requested_at or "").encode(),
    ):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _where(error: msgspec.ValidationError) -> str:
    """The validator's sentence without the value that it may quote."""
    sentence, _, path = str(error).partition(" - at ")
    if sentence.startswith("Invalid enum value"):
        sentence = "Invalid enum value"
    return f"{sentence} at {path}" if path else sentence
