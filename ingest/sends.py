"""``POST /sends``: an application tells what it sent and what Vonage answered.

One object, a list of them, or ``{"sends": [...]}``. Each becomes one record per message. The same
input gives the same message ids and send ids, so that a repetition is merged: nothing happens
twice. Text and credentials are not among the fields that are read, and so go nowhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct

from ingest.errors import SENDS_ACCEPTED, SENDS_FOREIGN, SENDS_MALFORMED, Answer, Refused
from ingest.handlers import Dependencies, read_body, respond
from schemas import topics
from schemas.codec import TYPE_SEND, cloud_event, encode, event_id
from schemas.events import Send
from schemas.numbers import time_us
from schemas.vonage import messages, sms
from schemas.vonage.exchange import Exchange

PATH = "/sends"
_PARSERS = {"messages": messages.sends, "sms": sms.sends}
_Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


class _Answer(Struct):
    status: Annotated[int, Meta(ge=100, le=599)]
    body: Raw = Raw(b"null")


class _Call(Struct):
    """One API call. ``answer`` is absent when none came: the message may be on its way."""

    api: Literal["messages", "sms"]
    request: Raw
    answer: _Answer | None = None
    account: Annotated[str, Meta(max_length=128)] | None = None
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


async def post_sends(request: web.BaseRequest, given: Dependencies) -> web.Response:
    """Answer ``POST /sends``: 200 with the ids after Kafka's acknowledgement of every record."""
    body: bytes | None = None
    try:
        answer, body = await _take(request, given)
    except Refused as refused:
        answer = refused.answer
    given.metrics.answered("sends", answer)
    response = respond(answer, given, body)
    if body is not None:
        response.content_type = "application/json"
    return response


async def _take(request: web.BaseRequest, given: Dependencies) -> tuple[Answer, bytes]:
    if not is_loopback(request.remote):
        raise Refused(SENDS_FOREIGN)
    raw = await read_body(request, given)
    try:
        found = parse(raw, given.now_us())
    except Malformed as error:
        return SENDS_MALFORMED, encode({"error": str(error)})
    await _publish_all(found, given)
    ids = [{"message_id": send.message_id, "send_id": send.send_id} for send in found]
    return SENDS_ACCEPTED, encode({"accepted": ids})


async def _publish_all(found: list[Send], given: Dependencies) -> None:
    """Every record, or Refused: some may be in Kafka then, and the repetition is merged."""
    results = await asyncio.gather(
        *(_publish(send, given) for send in found), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _publish(send: Send, given: Dependencies) -> None:
    headers = cloud_event(
        ce_type=TYPE_SEND,
        ce_id=event_id("POST", PATH, f"{send.send_id}\0{send.message_id}".encode()),
        source=f"//{PATH}",
        at_us=send.arrived_at_us,
        content_type="application/json",
    )
    await given.publisher.publish(topics.SENDS, send.message_id.encode(), encode(send), headers)


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
    try:
        request = _parsed(call.request)
        answer = _parsed(call.answer.body) if call.answer else None
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise Malformed(f"Send {index}: request or answer holds JSON out of range.") from None
    if not isinstance(request, dict):
        raise Malformed(f"Send {index}: request must be an object.")
    exchange = Exchange(
        send_id=call.send_id or _send_id(call),
        arrived_at_us=now_us,
        request=request,
        answer_status=call.answer.status if call.answer else None,
        answer=answer,
        account=call.account or None,
        requested_at_us=_time(call.requested_at, index, "requested_at"),
        answered_at_us=_time(call.answered_at, index, "answered_at"),
    )
    return _PARSERS[call.api](exchange)


def _parsed(raw: Raw) -> Any:
    """The value; a string that holds JSON (an answer's body as text) is read once more."""
    value = msgspec.json.decode(raw)
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return value
    return value


def _time(text: str | None, index: int, name: str) -> int | None:
    if text is None:
        return None
    read = time_us(text)
    if read is None:
        raise Malformed(f"Send {index}: {name} is not a time like 2025-02-03T12:14:25Z.")
    return read[0]


def _send_id(call: _Call) -> str:
    """Hash of account, request bytes, answer bytes and request time (RULES section 2)."""
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


def is_loopback(remote: str | None) -> bool:
    """From this host. Until a bearer token guards it, nobody else may post sends."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
