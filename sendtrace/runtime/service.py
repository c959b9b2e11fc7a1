"""A process: signals, health and metrics over HTTP, JSON logs.

Logs: none in normal operation, one structured line per abnormal event, and never a number, a
body or a query string.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from pythonjsonlogger.json import JsonFormatter

from sendtrace.runtime.kafka import no_fencing_unheard


def configure_logging(level: str) -> None:
    """One JSON object a line on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").addFilter(no_fencing_unheard)


# Longer than what a loop waits for on purpose: a commit (15 s), the group's word (5 s), clients
# that are stopped (20 s), a rebalance (30 s). Failing to recover ends the process (60 s).
STUCK_SECONDS = 120.0


class Health:
    """Live until something is beyond repair or stuck; ready when it can do its work.

    Who works in rounds says so with ``moved``. Whether it is stuck is told from the time of its
    last word alone, by whoever asks: a loop that hangs could not tell.
    """

    def __init__(self, stuck_seconds: float = STUCK_SECONDS) -> None:
        self.ready = False
        self.live = True
        self.reason = "starting"
        self._stuck_seconds = stuck_seconds
        self._moved_at: dict[str, float] = {}

    def set_ready(self) -> None:
        self.ready, self.reason = True, ""

    def set_unready(self, reason: str) -> None:
        self.ready, self.reason = False, reason

    def moved(self, name: str) -> None:
        """``name`` is at work, and will say so again soon."""
        self._moved_at[name] = time.monotonic()

    def at_rest(self, name: str) -> None:
        """``name`` has nothing to do."""
        self._moved_at.pop(name, None)

    def excuse(self) -> None:
        """Something outside is waited for, within a bound: a restart would mend nothing."""
        self._moved_at = dict.fromkeys(self._moved_at, time.monotonic())

    def why_not_live(self) -> str:
        """Empty while live."""
        if not self.live:
            return self.reason or "beyond repair"
        for name, at in self._moved_at.items():
            if time.monotonic() - at > self._stuck_seconds:
                return f"{name} has not moved for {self._stuck_seconds:g} s"
        return ""


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Call once, inside the running loop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def leave_on_signal(stopping: asyncio.Event) -> asyncio.Event:
    """An event that SIGUSR2 sets, with ``stopping``: this stop is for good, nobody comes back.

    A SIGTERM alone may be a restart, and before or after it says nothing against this.
    """
    leaving = asyncio.Event()

    def leave() -> None:
        leaving.set()
        stopping.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, leave)
    return leaving


# An Accept header to a metrics page and its content type.
Page = Callable[[str], tuple[bytes, str]]

_OPENMETRICS = "application/openmetrics-text"


def encoder_for(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """OpenMetrics for those who ask for it, else Prometheus's text; with the content type.

    prometheus-client is asked with a header of ours: it echoes any version and raises on a
    malformed one.
    """
    return choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in accept else "")


def page_of(registry: CollectorRegistry) -> Page:
    """All of a registry, rendered each time; and when this process started, its CPU and memory.

    By its start is seen what dies again and again, and is up whenever somebody asks.
    """
    ProcessCollector(registry=registry)

    def page(accept: str) -> tuple[bytes, str]:
        encode, content_type = encoder_for(accept)
        return encode(registry), content_type

    return page


def health_routes(health: Health, page: Page) -> list[web.RouteDef]:
    """``/livez``, ``/readyz`` and ``/metrics``."""

    async def livez(_: web.Request) -> web.Response:
        why_not = health.why_not_live()
        return web.Response(status=503 if why_not else 200, text=why_not or health.reason or "ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.ready else 503, text=health.reason or "ok")

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    return [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)]


@asynccontextmanager
async def http_server(app: web.Application, address: str, port: int) -> AsyncIterator[int]:
    """Serve an app without an access log (it would print query strings). Yields the port."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def health_server(
    health: Health, registry: CollectorRegistry, address: str, port: int
) -> AsyncIterator[int]:
    """Health and metrics of a process that serves nothing else. Yields the port."""
    app = web.Application()
    app.add_routes(health_routes(health, page_of(registry)))
    async with http_server(app, address, port) as bound:
        yield bound
