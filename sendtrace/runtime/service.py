"""A process: signals, health and metrics over HTTP, JSON logs.

Logs: none in normal operation, one structured line per abnormal event, and never a number, a
body or a query string.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pythonjsonlogger.json import JsonFormatter


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


class Health:
    """Live until something is beyond repair; ready when it can do its work."""

    def __init__(self) -> None:
        self.ready = False
        self.live = True
        self.reason = "starting"

    def set_ready(self) -> None:
        self.ready, self.reason = True, ""

    def set_unready(self, reason: str) -> None:
        self.ready, self.reason = False, reason


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


def health_routes(
    health: Health, render: Callable[[], bytes], content_type: str = CONTENT_TYPE_LATEST
) -> list[web.RouteDef]:
    """``/livez``, ``/readyz`` and ``/metrics``; ``render`` gives the body of the last."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.live else 503, text=health.reason or "ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.ready else 503, text=health.reason or "ok")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": content_type})

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
    app.add_routes(health_routes(health, lambda: generate_latest(registry)))
    async with http_server(app, address, port) as bound:
        yield bound
