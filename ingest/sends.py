"""``POST /sends``: an application tells what it sent and what Vonage answered.

One object, a list of them, or ``{"sends": [...]}``. Each becomes one record per message. The same
input gives the same message ids and send ids, so that a repetition is merged: nothing happens
twice. Text and credentials are not among the fields that are read, and so go nowhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from hmac import compare_digest

from aiohttp import web

from ingest.body import read_body
from ingest.calls import Malformed, parse
from ingest.errors import (
    DRAINING,
    FAULT,
    SENDS_ACCEPTED,
    SENDS_FOREIGN,
    SENDS_MALFORMED,
    SENDS_UNAUTHORIZED,
    Answer,
    Refused,
    kind_and_place,
)
from ingest.handlers import Dependencies, respond
from schemas import topics
from schemas.codec import TYPE_SEND, cloud_event, encode, event_id
from schemas.events import Send
from schemas.vonage.signing import bearer

PATH = "/sends"

log = logging.getLogger(__name__)


async def post_sends(request: web.BaseRequest, given: Dependencies) -> web.Response:
    """Answer ``POST /sends``: 200 with the ids after Kafka's acknowledgement of every record."""
    body: bytes | None = None
    try:
        answer, body = await _take(request, given)
    except Refused as refused:
        answer = refused.answer
        given.refusals.note(answer, given.now_us())
    except Exception as error:  # noqa: BLE001  # the rim: one bad request must not stop the others
        log.error("a send met a fault of ours: %s", kind_and_place(error))
        answer = FAULT
    given.metrics.answered("sends", answer)
    response = respond(answer, given, body)
    if body is not None:
        response.content_type = "application/json"
    return response


async def _take(request: web.BaseRequest, given: Dependencies) -> tuple[Answer, bytes]:
    _authorize(request, given.sends_token)
    if given.draining:
        raise Refused(DRAINING)
    raw = await read_body(
        request, given.body_limit_bytes, given.read_seconds, given.publisher.in_flight
    )
    try:
        found = parse(raw, given.now_us())
    except Malformed as error:
        return SENDS_MALFORMED, encode({"error": str(error)})
    await _publish_all(found, given)
    ids = [{"message_id": send.message_id, "send_id": send.send_id} for send in found]
    return SENDS_ACCEPTED, encode({"accepted": ids})


def _authorize(request: web.BaseRequest, token: bytes | None) -> None:
    """With a token it is asked of everybody, without one nobody else may. Raises Refused."""
    if token is None:
        if not is_loopback(request.remote):
            raise Refused(SENDS_FOREIGN)
        return
    brought = bearer(request.headers.get("Authorization"))
    if not compare_digest(brought.encode("utf-8", "replace"), token):
        raise Refused(SENDS_UNAUTHORIZED)


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
        source=PATH,
        at_us=send.arrived_at_us,
        content_type="application/json",
    )
    await given.publisher.publish(topics.SENDS, send.message_id.encode(), encode(send), headers)


def is_loopback(remote: str | None) -> bool:
    """From this host."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
