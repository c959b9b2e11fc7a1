"""The process ``edge``: two ports, one producer, and the order of start and drain.

The public port is aiohttp's low-level server: it has one handler, needs no router, and costs a
quarter less than an Application (BENCH-NOTES). The internal port has health, metrics and sends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from ingest.handlers import Dependencies, webhook
from ingest.metrics import Metrics
from ingest.publish import RECORD_LIMIT_BYTES, RECORD_OVERHEAD_BYTES, Publisher
from ingest.sends import PATH, post_sends
from schemas.vonage.fields import ID_LENGTH
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import Clients, KafkaClients
from sendtrace.runtime.service import Health, health_routes, http_server, stop_on_signals
from sendtrace.runtime.settings import Settings

# A key has at most 4 bytes a character.
_VALUE_LIMIT_BYTES = RECORD_LIMIT_BYTES - RECORD_OVERHEAD_BYTES - 4 * ID_LENGTH
# Connections that are idle when the process stops are not waited for.
_SHUTDOWN_SECONDS = 0.5

log = logging.getLogger(__name__)


class EdgeBroken(Exception):
    """Something happened that must not: the process ends, and is restarted from outside."""


async def run(settings: Settings) -> None:
    """The process: until SIGTERM, and then a drain. Raises what the start met."""
    for drift in await topics.require(settings):
        log.warning("%s", drift)
    logging.getLogger("aiohttp.server").addFilter(without_content)
    await serve(settings, KafkaClients(settings), stop_on_signals())


async def serve(
    settings: Settings,
    clients: Clients,
    stopping: asyncio.Event,
    on_ready: Callable[[int, int], None] = lambda public, internal: None,
) -> None:
    """Serve until ``stopping``, then drain: readiness off, wait, stop accepting, flush."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    health = Health()
    publisher = Publisher(clients, settings, metrics)
    given = dependencies(settings, publisher, metrics)
    await publisher.start()
    try:
        internal = internal_app(given, health, registry)
        async with (
            http_server(internal, settings.bind_address, settings.port("edge_internal")) as inside,
            public_server(given, settings.bind_address, settings.port("edge")) as outside,
        ):
            health.set_ready()
            on_ready(outside, inside)
            await _first_of(stopping, publisher.broken)
            if publisher.broken.is_set():
                health.live = False
            await _drain(settings, health, given, publisher)
    finally:
        await publisher.stop()
    if publisher.broken.is_set():
        raise EdgeBroken("a delivery failed in a way that no row of the table has; see the log")


async def _drain(
    settings: Settings, health: Health, given: Dependencies, publisher: Publisher
) -> None:
    """Load balancers see the readiness and go; then kept-alive connections are answered 503."""
    health.set_unready("draining")
    given.closing = True
    await asyncio.sleep(settings.edge_drain_seconds)
    given.draining = True
    await publisher.flush()


def dependencies(settings: Settings, publisher: Publisher, metrics: Metrics) -> Dependencies:
    return Dependencies(
        publisher=publisher,
        metrics=metrics,
        now_us=lambda: time.time_ns() // 1000,
        body_limit_bytes=min(settings.edge_body_limit_bytes, _VALUE_LIMIT_BYTES),
        read_seconds=settings.edge_budget_seconds,
    )


def internal_app(
    given: Dependencies, health: Health, registry: CollectorRegistry
) -> web.Application:
    """Health, metrics, and ``POST /sends``."""

    async def sends(request: web.Request) -> web.Response:
        return await post_sends(request, given)

    app = web.Application()
    app.add_routes(health_routes(health, lambda: generate_latest(registry)))
    app.router.add_post(PATH, sends)
    return app


@asynccontextmanager
async def public_server(given: Dependencies, address: str, port: int) -> AsyncIterator[int]:
    """Webhooks, without access log (it would print query strings). Yields the port."""

    async def handle(request: web.BaseRequest) -> web.Response:
        return await webhook(request, given)

    # Bytes as they came: a decompressed body would be another one, and unbounded.
    server = web.Server(handle, access_log=None, auto_decompress=False)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port, backlog=1024).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def without_content(record: logging.LogRecord) -> bool:
    """A log filter: aiohttp quotes a malformed request's bytes; only the kind of error is kept."""
    error = record.exc_info[1] if record.exc_info else None
    kind = type(error).__name__ if error is not None else "no exception"
    record.msg, record.args = "HTTP request failed: %s", (kind,)
    record.exc_info = record.exc_text = None
    return True
