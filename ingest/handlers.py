"""What happens to one webhook: read it, tell what it is, stamp it, make it durable, answer.

The handler takes its dependencies as an argument; ``ingest/app.py`` binds them. Nothing of a
request but its path goes anywhere else than into Kafka: no query, number or text is logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError
from msgspec import Struct

from ingest.errors import (
    ACCEPTED,
    BODY_BROKEN,
    BODY_SLOW,
    DRAINING,
    METHOD,
    NOT_FOUND,
    PROBE,
    QUARANTINED,
    TOO_LARGE,
    Answer,
    Refused,
)
from ingest.metrics import Metrics
from ingest.publish import InFlight
from schemas import topics
from schemas.codec import TYPE_QUARANTINE, Headers, cloud_event, event_id
from schemas.vonage.detect import Quarantine, detect
from schemas.vonage.reasons import Reason

ROOT = "/webhooks"
PATH_LENGTH = 256


class Publish(Protocol):
    """The part of :class:`ingest.publish.Publisher` that handlers use."""

    @property
    def in_flight(self) -> InFlight: ...

    async def publish(
        self, topic: str, key: bytes | None, value: bytes, headers: Headers
    ) -> None: ...


class Dependencies(Struct):
    """What handlers need. ``closing`` asks clients to go, ``draining`` refuses them."""

    publisher: Publish
    metrics: Metrics
    now_us: Callable[[], int]
    body_limit_bytes: int
    read_seconds: float
    closing: bool = False
    draining: bool = False


async def webhook(request: web.BaseRequest, given: Dependencies) -> web.Response:
    """Answer one request of the public port, by a row of ``ingest/errors.py`` whatever comes."""
    reason = None
    try:
        answer, reason = await take(request, given)
    except Refused as refused:
        answer = refused.answer
    given.metrics.answered("webhooks", answer, reason)
    return respond(answer, given)


async def take(request: web.BaseRequest, given: Dependencies) -> tuple[Answer, Reason | None]:
    """Make one webhook durable. Raises Refused."""
    method = request.method
    path, query = split_target(request.raw_path)
    if not (path.startswith(ROOT) and path[len(ROOT) : len(ROOT) + 1] in ("", "/")):
        raise Refused(NOT_FOUND)
    if method not in ("GET", "POST"):
        raise Refused(METHOD)
    if given.draining:
        raise Refused(DRAINING)
    if method == "GET":
        if not query:
            return PROBE, None
        body = b""
    else:
        body = await read_body(request, given)
    content_type = request.headers.get("Content-Type")
    found = detect(method, path, query, content_type, body)
    headers = cloud_event(
        ce_type=TYPE_QUARANTINE if isinstance(found, Quarantine) else found.ce_type,
        ce_id=event_id(method, path, found.value),
        source=f"//{path}",
        at_us=given.now_us(),
        content_type=found.content_type,
    )
    if isinstance(found, Quarantine):
        headers.append(("reason", found.reason.encode()))
        await given.publisher.publish(topics.QUARANTINE, None, found.value, headers)
        return QUARANTINED, found.reason
    await given.publisher.publish(found.topic, found.key, found.value, headers)
    return ACCEPTED, None


def respond(answer: Answer, given: Dependencies, body: bytes | None = None) -> web.Response:
    """The HTTP response of a row. An empty 200 is all that Vonage looks at."""
    if body is None:
        body = b"" if answer.http_status == 200 else answer.name.encode() + b"\n"
    response = web.Response(status=answer.http_status, body=body)
    if answer is METHOD:
        response.headers["Allow"] = "GET, POST"
    if given.closing or answer in (TOO_LARGE, BODY_SLOW, BODY_BROKEN):
        response.force_close()
    return response


def split_target(raw: str) -> tuple[str, bytes]:
    """Path and query of a request target; the query's bytes as they came.

    The path goes into headers: bounded, and without what is no text.
    """
    if not raw.startswith("/"):
        # The absolute form, which proxies may send: scheme://authority/path
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    path, _, query = raw.partition("#")[0].partition("?")
    readable = path[:PATH_LENGTH].encode("utf-8", "replace").decode("utf-8")
    return readable, query.encode("utf-8", "surrogateescape")


async def read_body(request: web.BaseRequest, given: Dependencies) -> bytes:
    """The raw body, bounded in size and in time to arrive. Raises Refused."""
    limit = given.body_limit_bytes
    if (request.content_length or 0) > limit:
        raise Refused(TOO_LARGE)
    try:
        if request.content.is_eof():
            # It came with the request, as nearly all do: nothing to wait for.
            body = request.content.read_nowait()
        else:
            async with asyncio.timeout(given.read_seconds):
                body = await _read_slowly(request, limit, given.publisher.in_flight)
    except TimeoutError:
        raise Refused(BODY_SLOW) from None
    except (RequestPayloadError, HttpProcessingError, ConnectionError):
        raise Refused(BODY_BROKEN) from None
    if len(body) > limit:
        raise Refused(TOO_LARGE)
    return body


async def _read_slowly(request: web.BaseRequest, limit: int, in_flight: InFlight) -> bytes:
    """Chunk by chunk, each charged to the bytes in flight while it is here."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks: list[bytes] = []
    held = 0
    try:
        while held <= limit:
            chunk = await request.content.readany()
            if not chunk:
                break
            in_flight.take(len(chunk))
            held += len(chunk)
            chunks.append(chunk)
    finally:
        in_flight.give(held)
    return b"".join(chunks)
