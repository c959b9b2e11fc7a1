"""Connections of both ports: how many, and how long each may take.

aiohttp bounds a request line, a header and their number, but no time, no total and no count. Here
each connection is looked at once a second, which costs the good ones nothing:

1. headers that are not complete after ``header_seconds``, or are above 64 KiB: closed, counted;
2. a request whose answer is not taken after ``answer_seconds``: closed, counted;
3. a connection too many: 503 and closed.

Idle ones are closed by aiohttp itself, after ``keepalive_seconds``. What is no HTTP is answered by
the row ``malformed`` of the table; aiohttp's own answer would quote the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from msgspec import Struct

from ingest.errors import CROWDED, FAULT, MALFORMED, Answer
from ingest.metrics import Closed

# Vonage's are below 2 KB; a GET's parameters are in the request line.
HEADER_LIMIT_BYTES = 64 * 1024
LINE_LIMIT_BYTES = 16 * 1024
HEADER_COUNT_LIMIT = 64
SWEEP_SECONDS = 1.0
# A client that is still sending what was refused may read the answer before it is cut off.
_LINGER_SECONDS = 1.0

_CROWDED_RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 8\r\n\r\ncrowded\n"
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Limits(Struct, frozen=True):
    """Of one server."""

    connections: int
    header_seconds: float
    answer_seconds: float
    keepalive_seconds: float


class Connection(web.RequestHandler):
    """One connection, with what the sweep needs to know of it."""

    __slots__ = ("_answering_since", "_header_bytes", "_header_since", "_server")

    def __init__(self, server: Server, **options: object) -> None:
        super().__init__(server, **options)  # type: ignore[arg-type]  # aiohttp's own options
        self._server = server
        # A new connection owes us a request.
        self._header_since: float | None = self._loop.time()
        self._header_bytes = 0
        self._answering_since: tuple[int, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.count < self._server.limits.connections:
            super().connection_made(transport)
            return
        self._force_close = True
        assert isinstance(transport, asyncio.Transport)
        transport.write(_CROWDED_RESPONSE)
        transport.close()
        self._server.note(CROWDED)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._header_since, self._header_bytes = None, 0
        elif self._waiter is not None and not self._waiter.done():
            # It waits for a request, so this is a part of the headers and of no body.
            if self._header_since is None:
                self._header_since = self._loop.time()
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_LIMIT_BYTES:
                self._abort("headers_large")

    def sweep(self, now: float) -> None:
        """Close if it takes too long."""
        limits = self._server.limits
        since = self._header_since
        if since is not None and now - since > limits.header_seconds and not self._messages:
            self._abort("headers_slow")
            return
        begun = self._request_count - len(self._messages)
        if not self._request_in_progress:
            self._answering_since = None
        elif self._answering_since is None or self._answering_since[0] != begun:
            self._answering_since = (begun, now)
        elif now - self._answering_since[1] > limits.answer_seconds:
            self._abort("answer_slow")

    def _abort(self, reason: Closed) -> None:
        self._server.closed(reason)
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()  # close() would wait until what is written was taken

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A row of the table instead of aiohttp's answer, and nothing of the request in a log."""
        answer = MALFORMED if status == 400 else FAULT
        self._server.note(answer)
        response = web.Response(status=answer.http_status, text=f"{answer.name}\n")
        response.force_close()
        return response


class Server(web.Server):
    """Makes the connections. ``note`` is told of an answer that no handler gave, ``closed`` of a
    connection that ended without one."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        note: Callable[[Answer], None],
        closed: Callable[[Closed], None],
    ) -> None:
        super().__init__(handler)
        self.limits = limits
        self.note = note
        self.closed = closed

    @property
    def count(self) -> int:
        """Of open connections."""
        return len(self._connections)

    def __call__(self) -> web.RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            # An access log would print query strings.
            access_log=None,
            # Bytes as they came: a decompressed body would be another one, and unbounded.
            auto_decompress=False,
            keepalive_timeout=self.limits.keepalive_seconds,
            lingering_time=_LINGER_SECONDS,
            max_line_size=LINE_LIMIT_BYTES,
            max_headers=HEADER_COUNT_LIMIT,
        )

    async def sweep(self) -> None:
        """Look at every connection, for ever."""
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self.limits.header_seconds / 4))
            now = self._loop.time()
            for connection in self.connections:
                assert isinstance(connection, Connection)
                connection.sweep(now)


@asynccontextmanager
async def listening(
    server: Server, address: str, port: int, shutdown_seconds: float
) -> AsyncIterator[int]:
    """Serve until the block ends. Yields the port."""
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=shutdown_seconds)
    await runner.setup()
    sweeping = asyncio.ensure_future(server.sweep())
    try:
        await web.TCPSite(runner, address, port, backlog=1024).start()
        yield runner.addresses[0][1]
    finally:
        sweeping.cancel()
        await asyncio.wait([sweeping])
        await runner.cleanup()
