"""What runs beside the servers as long as they do: files are watched, and the edge pulses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from ingest.handlers import Dependencies
from ingest.metrics import Metrics
from ingest.pulses import new_edge_id, pulse
from ingest.reread import Reread, watch
from schemas.pulses import every_seconds
from sendtrace.runtime.accounts import Accounts
from sendtrace.runtime.settings import Settings

# A secret is changed by hand, and the old one is live beside the new one for minutes.
POLL_SECONDS = 3.0

T = TypeVar("T")
Work = list[Coroutine[Any, Any, None]]

log = logging.getLogger(__name__)


@asynccontextmanager
async def beside(work: Work, broken: asyncio.Event) -> AsyncIterator[None]:
    """Endless work that ends with the block. If it ends before, that is a fault: ``broken``."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("work beside the servers ended: %s", type(task.exception()).__name__)
            broken.set()

    tasks = [asyncio.ensure_future(each) for each in work]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def watches(
    given: Dependencies, accounts: Reread[Accounts] | None, sends_token: Reread[bytes] | None
) -> Work:
    """Puts what the files hold where handlers see it, whenever it changes."""

    def use_accounts(new: Accounts) -> None:
        given.accounts = new
        given.refusals.mended(given.now_us())

    def use_sends_token(new: bytes) -> None:
        given.sends_token = new

    work = []
    if accounts is not None:
        work.append(_watched("accounts", accounts, use_accounts, given.metrics))
    if sends_token is not None:
        work.append(_watched("sends_token", sends_token, use_sends_token, given.metrics))
    return work


def _watched(
    file: Literal["accounts", "sends_token"],
    what: Reread[T],
    use: Callable[[T], None],
    metrics: Metrics,
) -> Coroutine[Any, Any, None]:
    def on_new(new: T) -> None:
        use(new)
        metrics.reloaded(file, is_usable=True)

    def on_broken(sentence: str) -> None:
        metrics.reloaded(file, is_usable=False)
        log.error("a changed file cannot be used, and the old content is: %s", sentence)

    return watch(what, on_new, on_broken, POLL_SECONDS)


def pulses(given: Dependencies, settings: Settings) -> Work:
    """One for the whole edge."""
    pause_seconds = every_seconds(settings.time_scale)
    return [pulse(given, settings.partitions, new_edge_id(), pause_seconds)]
