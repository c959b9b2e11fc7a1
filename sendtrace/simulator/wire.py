"""Vonage over HTTP: posts sends to the internal port and webhooks to the public one, with retries.

Retries as Vonage does, in a fraction of the time: whatever is not 200 comes again, unchanged, after
a pause that doubles, until the attempts are used up. It refuses to talk to any other machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.topics import DependencyAway
from sendtrace.simulator.payloads import Webhook

# What Vonage was seen to send (FACTS section 1).
USER_AGENT = "Vonage/MessagingHUB/v1.0"
# More would only queue in the edge; fewer would be the bottleneck.
CONNECTIONS = 64


@dataclass(frozen=True)
class RetryPlan:
    """Pauses between attempts. Vonage's 5 s doubling to 15 min over 24 h, made short."""

    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 5.0
    attempts: int = 40  # about three minutes: longer than any restart of the stack
    answer_timeout_seconds: float = 15.0

    def pause_seconds(self, failures: int) -> float:
        """The pause after so many failed attempts (at least one)."""
        doubled = self.first_pause_seconds * 2.0 ** min(failures - 1, 20)
        return min(doubled, self.longest_pause_seconds)


@dataclass
class Tally:
    """What happened on the wire."""

    sends: int = 0
    webhooks: int = 0
    repeats: int = 0
    retries: int = 0
    given_up: int = 0

    def __str__(self) -> str:
        return (
            f"{self.sends} sends, {self.webhooks} webhooks ({self.repeats} repeats), "
            f"{self.retries} retries, {self.given_up} given up"
        )


class Wire:
    """The two ports of one edge."""

    def __init__(
        self, session: aiohttp.ClientSession, public: str, internal: str, retry: RetryPlan
    ) -> None:
        self._session = session
        self._public = public
        self._internal = internal
        self._retry = retry
        self.tally = Tally()

    async def require(self) -> None:
        """Raises DependencyAway when no edge is there: retrying is for one that goes away."""
        if not await self._attempt("GET", f"{self._internal}/livez", b"", None):
            raise DependencyAway(
                f"No edge answers at {self._internal}: start one (`sendtrace up`), or set "
                "SENDTRACE_PORT_BASE"
            )

    async def record_send(self, send: dict[str, object]) -> bool:
        """POST /sends. True once it was answered with 200."""
        body = json.dumps(send, separators=(",", ":")).encode()
        url = f"{self._internal}/sends"
        accepted = await self._deliver("POST", url, body, "application/json")
        self.tally.sends += accepted
        return accepted

    async def call_webhook(self, webhook: Webhook) -> bool:
        """One webhook. True once it was answered with 200."""
        url = self._public + webhook.path
        if webhook.query:
            url += "?" + webhook.query
        accepted = await self._deliver(webhook.method, url, webhook.body, webhook.content_type)
        self.tally.webhooks += accepted
        self.tally.repeats += accepted and webhook.is_repeat
        return accepted

    async def _deliver(self, method: str, url: str, body: bytes, content_type: str | None) -> bool:
        for failures in range(self._retry.attempts):
            if failures:
                self.tally.retries += 1
                await asyncio.sleep(self._retry.pause_seconds(failures))
            if await self._attempt(method, url, body, content_type):
                return True
        self.tally.given_up += 1
        return False

    async def _attempt(self, method: str, url: str, body: bytes, content_type: str | None) -> bool:
        headers = {"Content-Type": content_type} if content_type else {}
        try:
            async with self._session.request(
                # GET webhooks carry their query encoded as Vonage encoded it: not once more.
                method,
                URL(url, encoded=True),
                data=body or None,
                headers=headers,
            ) as response:
                await response.read()
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            # Away, or too slow: Vonage cannot tell either, and tries again.
            return False


@asynccontextmanager
async def open_wire(settings: Settings, retry: RetryPlan | None = None) -> AsyncIterator[Wire]:
    """A wire to the edge of these settings. Raises SettingsError unless it is on loopback."""
    retry = retry or RetryPlan()
    host = loopback_host(settings.bind_address)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        timeout=aiohttp.ClientTimeout(total=retry.answer_timeout_seconds),
        headers={"User-Agent": USER_AGENT},
        # No content type of our own making: a GET receipt has none.
        skip_auto_headers=("Content-Type",),
    ) as session:
        yield Wire(
            session,
            f"http://{host}:{settings.port('edge')}",
            f"http://{host}:{settings.port('edge_internal')}",
            retry,
        )


def loopback_host(bind_address: str) -> str:
    """The address to call for an edge bound so. Made-up traffic must not reach another machine."""
    if bind_address == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(bind_address)
    except ValueError:
        address = None
    if address is not None and address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    if address is None or not address.is_loopback:
        raise SettingsError(
            f"SENDTRACE_BIND_ADDRESS is {bind_address}: the simulator sends made-up messages and "
            "only talks to this machine; set it to 127.0.0.1"
        )
    return str(address) if address.version == 4 else f"[{address}]"
