"""Vonage over HTTP: posts sends to the internal port and webhooks to the public one, with retries.

Retries as Vonage does, in a fraction of the time: whatever is not 200 comes again, signed anew,
after a pause that doubles, until the attempts are used up. It refuses to talk to any other machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.topics import DependencyAway
from sendtrace.simulator.credentials import Account, prove, read_accounts
from sendtrace.simulator.parties import ACCOUNTS
from sendtrace.simulator.webhook import Request, Webhook

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
    """The two ports of one edge. ``accounts`` are empty where nothing has to be proven."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        public: str,
        internal: str,
        retry: RetryPlan,
        accounts: Mapping[str, Account] | None = None,
        bearer: str | None = None,
    ) -> None:
        self._session = session
        self._public = public
        self._internal = internal
        self._retry = retry
        self._accounts = accounts or {}
        self._bearer = bearer
        self.tally = Tally()

    async def require(self) -> None:
        """Raises DependencyAway when no edge is there: retrying is for one that goes away."""
        if not await self._attempt(self._internal, Request("GET", "/livez")):
            raise DependencyAway(
                f"No edge answers at {self._internal}: start one (`sendtrace up`), or set "
                "SENDTRACE_PORT_BASE"
            )

    async def record_send(self, send: dict[str, object]) -> bool:
        """POST /sends. True once it was answered with 200."""
        record = Request(
            "POST",
            "/sends",
            body=json.dumps(send, separators=(",", ":")).encode(),
            content_type="application/json",
            authorization=self._bearer,
        )
        accepted = await self._deliver(self._internal, lambda: record)
        self.tally.sends += accepted
        return accepted

    async def call_webhook(self, webhook: Webhook) -> bool:
        """One webhook. True once it was answered with 200."""
        account = self._accounts.get(webhook.account)

        def attempt() -> Request:
            return prove(webhook, account, int(time.time()), str(uuid.uuid4()))

        accepted = await self._deliver(self._public, attempt)
        self.tally.webhooks += accepted
        self.tally.repeats += accepted and webhook.is_repeat
        return accepted

    async def _deliver(self, base: str, attempt: Callable[[], Request]) -> bool:
        for failures in range(self._retry.attempts):
            if failures:
                self.tally.retries += 1
                await asyncio.sleep(self._retry.pause_seconds(failures))
            if await self._attempt(base, attempt()):
                return True
        self.tally.given_up += 1
        return False

    async def _attempt(self, base: str, request: Request) -> bool:
        headers = {}
        if request.content_type:
            headers["Content-Type"] = request.content_type
        if request.authorization:
            headers["Authorization"] = request.authorization
        url = base + request.path + (f"?{request.query}" if request.query else "")
        try:
            async with self._session.request(
                # GET webhooks carry their query encoded as Vonage encoded it: not once more.
                request.method,
                URL(url, encoded=True),
                data=request.body or None,
                headers=headers,
            ) as response:
                await response.read()
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            # Away, or too slow: Vonage cannot tell either, and tries again.
            return False


@asynccontextmanager
async def open_wire(settings: Settings, retry: RetryPlan | None = None) -> AsyncIterator[Wire]:
    """A wire to the edge of these settings. Raises SettingsError unless it is on loopback, and the
    accounts that the traffic is of are known."""
    retry = retry or RetryPlan()
    host = loopback_host(settings.bind_address)
    accounts_file = settings.accounts_file or _made_by_up(settings, "accounts.toml")
    accounts = read_accounts(Path(accounts_file), ACCOUNTS) if accounts_file else {}
    bearer = _bearer(settings.sends_token_file or _made_by_up(settings, "sends.token"))
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
            accounts,
            bearer,
        )


def _made_by_up(settings: Settings, name: str) -> str:
    """`sendtrace simulate` beside `sendtrace up`: what ``sendtrace/local/secrets.py`` made."""
    path = Path(settings.data_dir) / "secrets" / name
    return str(path) if path.is_file() else ""


def _bearer(token_file: str) -> str | None:
    """What ``POST /sends`` asks for, if it asks for anything."""
    if not token_file:
        return None
    try:
        return f"Bearer {Path(token_file).read_text().strip()}"
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"SENDTRACE_SENDS_TOKEN_FILE: {token_file} cannot be read ({type(error).__name__})"
        ) from None


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
