"""Vonage over HTTP: posts sends to the internal port and webhooks to the public one, with retries.

Retries as Vonage does (retries.py), in a fraction of the time, and each attempt is signed anew. It
refuses to talk to any other machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from yarl import URL

from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.topics import DependencyAway
from sendtrace.simulator.credentials import Account, prove, read_accounts
from sendtrace.simulator.parties import ACCOUNTS
from sendtrace.simulator.requests import RequestLog
from sendtrace.simulator.retries import (
    ANSWER_TIMEOUT_SECONDS,
    CONNECT_TIMEOUT_SECONDS,
    SENDS,
    RetryPlan,
    is_retried,
    plan_of,
)
from sendtrace.simulator.webhook import Request, Webhook

_encode = msgspec.json.Encoder().encode

# What Vonage was seen to send (docs/vonage.md 1).
USER_AGENT = "Vonage/MessagingHUB/v1.0"
# More would only queue in the edge; fewer would be the bottleneck.
CONNECTIONS = 64


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
        log: RequestLog,
        divisor: float,
        accounts: Mapping[str, Account] | None = None,
        bearer: str | None = None,
    ) -> None:
        self._session = session
        self._public = public
        self._internal = internal
        self._log = log
        self._divisor = divisor
        self._accounts = accounts or {}
        self._bearer = bearer
        # Whether Vonage gets through: a scenario may say no (``edge-outage``).
        self.gets_through: Callable[[], bool] = _always
        self.tally = Tally()

    @property
    def is_verified(self) -> bool:
        """Webhooks prove whose they are."""
        return bool(self._accounts)

    async def require(self) -> None:
        """Raises DependencyAway when no edge is there: retrying is for one that goes away."""
        if await self._attempt(self._internal, Request("GET", "/livez")) != 200:
            raise DependencyAway(
                f"No edge answers at {self._internal}: start one (`sendtrace up`), or set "
                "SENDTRACE_PORT_BASE"
            )

    async def record_send(self, send: Mapping[str, object], ids: tuple[str, ...]) -> bool:
        """POST /sends. True once it was answered with 200."""
        record = Request(
            "POST",
            "/sends",
            body=_encode(send),
            content_type="application/json",
            authorization=self._bearer,
            shown_path="/sends",
        )
        # An application's: it is beside the edge, and time is not shorter for it.
        accepted = await self._deliver(self._internal, lambda: record, ids, SENDS, 1.0, _always)
        self.tally.sends += accepted
        return accepted

    async def call_webhook(self, webhook: Webhook) -> bool:
        """One webhook. True once it was answered with 200."""
        account = self._accounts.get(webhook.account)

        def attempt() -> Request:
            return prove(webhook, account, int(time.time()), str(uuid.uuid4()))

        accepted = await self._deliver(
            self._public, attempt, (webhook.message_id,), plan_of(webhook), self._divisor,
            self.gets_through,
        )  # fmt: skip
        self.tally.webhooks += accepted
        self.tally.repeats += accepted and webhook.is_repeat
        return accepted

    async def _deliver(
        self,
        base: str,
        attempt: Callable[[], Request],
        ids: tuple[str, ...],
        plan: RetryPlan,
        divisor: float,
        gets_through: Callable[[], bool],
    ) -> bool:
        """Until it is taken, refused for good, or the plan is at its end."""
        began = time.monotonic()
        for failures in itertools.count(1):
            status = await self._logged(base, attempt(), ids) if gets_through() else None
            if status == 200:
                return True
            pause = plan.pause_seconds(failures, divisor)
            is_over = time.monotonic() + pause > began + plan.for_seconds / divisor
            if is_over or not is_retried(status):
                break
            self.tally.retries += 1
            await asyncio.sleep(pause)
        self.tally.given_up += 1
        return False

    async def _logged(self, base: str, request: Request, ids: tuple[str, ...]) -> int | None:
        n = self._log.sending(request, ids, time.time_ns() // 1000)
        status = await self._attempt(base, request)
        self._log.answered(n, status)
        return status

    async def _attempt(self, base: str, request: Request) -> int | None:
        """The HTTP status; None where no answer came."""
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
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            # Away, or too slow: Vonage cannot tell either, and tries again.
            return None


def _always() -> bool:
    return True


@asynccontextmanager
async def open_wire(
    settings: Settings, log: RequestLog, divisor: float = 1.0
) -> AsyncIterator[Wire]:
    """A wire to the edge of these settings; ``divisor`` shortens Vonage's retry plans. Raises
    SettingsError unless it is on loopback, and the accounts that the traffic is of are known."""
    host = loopback_host(settings.bind_address)
    accounts_file = settings.accounts_file or _made_by_up(settings, "accounts.toml")
    accounts = read_accounts(Path(accounts_file), ACCOUNTS) if accounts_file else {}
    bearer = _bearer(settings.sends_token_file or _made_by_up(settings, "sends.token"))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        timeout=aiohttp.ClientTimeout(
            total=ANSWER_TIMEOUT_SECONDS, sock_connect=CONNECT_TIMEOUT_SECONDS
        ),
        headers={"User-Agent": USER_AGENT},
        # No content type of our own making: a GET receipt has none.
        skip_auto_headers=("Content-Type",),
    ) as session:
        # aiohttp sends a GET again by itself when a connection that was kept breaks: the edge would
        # get two requests where our log has one.
        session._retry_connection = False  # noqa: SLF001
        yield Wire(
            session,
            f"http://{host}:{settings.port('edge')}",
            f"http://{host}:{settings.port('edge_internal')}",
            log,
            divisor,
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
