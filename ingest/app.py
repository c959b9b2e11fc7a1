"""The process ``edge``: two ports, one producer, and the order of start and drain.

The public port is aiohttp's low-level server: it has one handler, needs no router, and costs a
quarter less than an Application (measured). The internal port has health, metrics and sends.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry

from ingest.beside import beside, pulses, watches
from ingest.body import split_target
from ingest.connections import Handler, Limits, Server, listening
from ingest.errors import METHOD, NOT_FOUND, Answer
from ingest.handlers import Dependencies, respond, webhook
from ingest.metrics import Metrics
from ingest.producers import RECORD_LIMIT_BYTES
from ingest.publish import RECORD_OVERHEAD_BYTES, Publisher
from ingest.refusals import Refusals
from ingest.reread import Reread, reread_accounts, reread_sends_token
from ingest.sends import PATH as SENDS_PATH
from ingest.sends import post_sends
from ingest.verify import stale_after
from schemas.topics import INBOUND, PULSES, QUARANTINE, RECEIPTS, SENDS, STATUSES
from schemas.vonage.fields import ID_LENGTH
from sendtrace.runtime import topics
from sendtrace.runtime.accounts import Accounts
from sendtrace.runtime.kafka import Clients, KafkaClients
from sendtrace.runtime.service import Health, health_routes, page_of, stop_on_signals
from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.topic_watch import watching

# A key has at most 4 bytes a character.
_VALUE_LIMIT_BYTES = RECORD_LIMIT_BYTES - RECORD_OVERHEAD_BYTES - 4 * ID_LENGTH
# Connections that are idle when the process stops are not waited for.
_SHUTDOWN_SECONDS = 0.5
# Topics that it writes to.
WRITTEN = (SENDS, STATUSES, RECEIPTS, INBOUND, QUARANTINE, PULSES)
# Reading and publishing have a budget each; what is longer, the client does not take its answer.
_ANSWER_BUDGETS = 4

log = logging.getLogger(__name__)


class EdgeBroken(Exception):
    """Something happened that must not: the process ends, and is restarted from outside."""


async def run(settings: Settings) -> None:
    """The process: until SIGTERM, and then a drain. Raises what the start met."""
    stopping = stop_on_signals()  # first: PID 1 of a container loses a SIGTERM without a handler
    for drift in await topics.require(settings):
        log.warning("%s", drift)
    logging.getLogger("aiohttp.server").addFilter(without_content)
    await serve(settings, KafkaClients(settings), stopping)


async def serve(
    settings: Settings,
    clients: Clients,
    stopping: asyncio.Event,
    on_ready: Callable[[int, int], None] = lambda public, internal: None,
) -> None:
    """Serve until ``stopping``, then drain: readiness off, wait, stop accepting, flush.

    Raises SettingsError where it would take webhooks from everybody without verifying them.
    """
    accounts, sends_token = reread_accounts(settings), reread_sends_token(settings)
    refuse_exposure(settings, accounts)
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    health = Health()
    publisher = Publisher(clients, settings, metrics)
    given = dependencies(settings, publisher, metrics)
    given.accounts = accounts.value if accounts else None
    given.sends_token = sends_token.value if sends_token else None
    await publisher.start()
    try:
        inner_port = settings.port("edge_internal")
        async with (
            watching(clients, settings, WRITTEN, may_be_remade=True) as topics_watch,
            internal_server(given, health, registry, settings, inner_port) as inside,
            public_server(given, settings, settings.port("edge")) as outside,
            beside(watches(given, accounts, sends_token), publisher.broken),
            beside(pulses(given, settings), publisher.broken),
        ):
            health.set_ready()
            on_ready(outside, inside)
            await _first_of(stopping, publisher.broken, topics_watch.changed)
            # No drain: what it took now would lie where nobody reads.
            topics_watch.check()
            if publisher.broken.is_set():
                health.live = False
            await _drain(settings, health, given, publisher)
    finally:
        await publisher.stop()
    if publisher.broken.is_set():
        raise EdgeBroken("something failed in a way that no row of the table has; see the log")


def refuse_exposure(settings: Settings, accounts: Reread[Accounts] | None) -> None:
    """Without accounts anybody may forge a webhook, so nobody else may reach the port."""
    if accounts is None and not _is_loopback(settings.bind_address):
        raise SettingsError(
            f"SENDTRACE_BIND_ADDRESS is {settings.bind_address}, and webhooks would not be "
            "verified: set SENDTRACE_ACCOUNTS_FILE (docs/edge.md), or listen on 127.0.0.1"
        )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


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
        refusals=Refusals(int(settings.retry_step_seconds / settings.time_scale * 1_000_000)),
        stale_after=stale_after(settings.time_scale),
    )


@asynccontextmanager
async def public_server(given: Dependencies, settings: Settings, port: int) -> AsyncIterator[int]:
    """Webhooks. Yields the port."""

    async def handle(request: web.BaseRequest) -> web.Response:
        return await webhook(request, given)

    def note(answer: Answer) -> None:
        given.metrics.answered("webhooks", answer)
        given.refusals.note(answer, given.now_us())

    server = Server(handle, _limits(settings), note, given.metrics.closed)
    given.metrics.connections.set_function(lambda: server.count)
    async with listening(server, settings.bind_address, port, _SHUTDOWN_SECONDS) as bound:
        yield bound


@asynccontextmanager
async def internal_server(
    given: Dependencies,
    health: Health,
    registry: CollectorRegistry,
    settings: Settings,
    port: int,
) -> AsyncIterator[int]:
    """Health, metrics, and ``POST /sends``. Yields the port."""
    routes = internal_routes(given, health, registry)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path, _ = split_target(request.raw_path)
        handler = routes.get((request.method, path))
        if handler is not None:
            return await handler(request)
        methods = tuple(method for method, known in routes if known == path)
        answer = METHOD if methods else NOT_FOUND
        given.metrics.answered("internal", answer)
        return respond(answer, given, methods=methods)

    def note(answer: Answer) -> None:
        given.metrics.answered("internal", answer)

    server = Server(handle, _limits(settings), note, given.metrics.closed)
    async with listening(server, settings.bind_address, port, _SHUTDOWN_SECONDS) as bound:
        yield bound


def internal_routes(
    given: Dependencies, health: Health, registry: CollectorRegistry
) -> dict[tuple[str, str], Handler]:
    """What the internal port serves, by method and path."""

    async def sends(request: web.BaseRequest) -> web.Response:
        return await post_sends(request, given)

    routes: dict[tuple[str, str], Handler] = {
        (route.method, route.path): route.handler  # type: ignore[misc]  # they read no request
        for route in health_routes(health, page_of(registry))
    }
    return {**routes, ("POST", SENDS_PATH): sends}


def _limits(settings: Settings) -> Limits:
    return Limits(
        connections=settings.edge_connection_limit,
        header_seconds=settings.edge_header_seconds,
        answer_seconds=_ANSWER_BUDGETS * settings.edge_budget_seconds,
        keepalive_seconds=settings.edge_keepalive_seconds,
    )


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
