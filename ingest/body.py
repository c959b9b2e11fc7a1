"""What came with a request: its target, and its body, bounded in size and in time."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from ingest.errors import BODY_BROKEN, BODY_SLOW, TOO_LARGE, Refused

PATH_LENGTH = 256


class InFlight(Protocol):
    """The part of :class:`ingest.publish.InFlight` that reading uses."""

    def take(self, size: int) -> None: ...
    def give(self, size: int) -> None: ...


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


async def read_body(
    request: web.BaseRequest, limit_bytes: int, read_seconds: float, in_flight: InFlight
) -> bytes:
    """The raw body. Raises Refused."""
    if (request.content_length or 0) > limit_bytes:
        raise Refused(TOO_LARGE)
    try:
        if request.content.is_eof():
            # It came with the request, as nearly all do: nothing to wait for.
            body = request.content.read_nowait()
        else:
            async with asyncio.timeout(read_seconds):
                body = await _read_slowly(request, limit_bytes, in_flight)
    except TimeoutError:
        raise Refused(BODY_SLOW) from None
    except (RequestPayloadError, HttpProcessingError, ConnectionError, RuntimeError):
        # RuntimeError is what reading from a connection that was just closed raises.
        raise Refused(BODY_BROKEN) from None
    if len(body) > limit_bytes:
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
