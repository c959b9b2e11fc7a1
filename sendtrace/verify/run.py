"""Waits until everything has come to rest, then compares; and again, while something may come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from processors.policies import policy_of
from sendtrace.runtime.kafka import Clients
from sendtrace.runtime.reading import open_reader
from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.simulator.ledger import Book, read_ledger
from sendtrace.simulator.requests import FILE as REQUESTS_FILE
from sendtrace.simulator.requests import Logged, read_requests
from sendtrace.verify import gather
from sendtrace.verify.compare import compare
from sendtrace.verify.found import Found, Report
from sinks.loader import inbound_reading

POLL_SECONDS = 0.5
# After the last thing that was seen to move: longer than an interval of every stage, and a render
# of the exporter.
REST_SECONDS = 2.0
# How much later than its deadline and the grace a message may settle: a wake-up, a commit.
SETTLE_SECONDS = 5.0

Say = Callable[[str], None]


async def verify(
    settings: Settings, clients: Clients, ledger_path: Path, wait_seconds: float, say: Say
) -> Report:
    """Compare, for at most ``wait_seconds`` of waiting. Raises DependencyAway, SettingsError."""
    until = time.monotonic() + wait_seconds
    await settled(_told(ledger_path).book, settings, until, say)
    while True:
        is_at_rest = await at_rest(settings, clients, until, say)
        report = await _compared(settings, clients, ledger_path, is_at_rest)
        if report.is_equal or time.monotonic() > until:
            return report
        say(f"{len(report.differences)} differences so far; something may still be under way")
        await asyncio.sleep(POLL_SECONDS)


async def _compared(
    settings: Settings, clients: Clients, ledger_path: Path, is_at_rest: bool
) -> Report:
    """A simulator may go on meanwhile: what was done before the reading must be found, and what
    was begun before its end may be."""
    done = _told(ledger_path)
    found = Found(
        now_us=time.time_ns() // 1000,
        topics=await gather.topics(clients, settings),
        tables=await gather.tables(settings.postgres_dsn),
        figures=await gather.figures(f"http://127.0.0.1:{settings.port('exporter')}/metrics"),
        inbound_forgotten=await gather.inbound_forgotten(settings.postgres_dsn),
        is_at_rest=is_at_rest,
    )
    begun = _told(ledger_path)
    begun.book.complete &= done.book.complete
    answered = {logged.sent.n: logged for logged in done.requests}
    requests = [answered.get(each.sent.n, Logged(each.sent)) for each in begun.requests]
    return compare(
        begun.book,
        requests,
        found,
        policy_of(settings),
        inbound_reading(settings),
        slack_us(settings),
    )


class _Told(NamedTuple):
    book: Book
    requests: list[Logged]


def _told(ledger_path: Path) -> _Told:
    """Raises SettingsError with a sentence: to find nothing different from nothing says nothing."""
    path = ledger_path.with_name(REQUESTS_FILE)
    try:
        requests = read_requests(path)
        path = ledger_path
        book = read_ledger(path)
    except (OSError, msgspec.ValidationError) as error:
        raise SettingsError(
            f"{path} cannot be read ({error}): `sendtrace simulate` writes it"
        ) from None
    if not book.ids:
        raise SettingsError(f"{path} names no message: `sendtrace simulate` writes what it sends")
    return _Told(book, requests)


def slack_us(settings: Settings) -> int:
    """Within so much after a deadline both of its sides are right."""
    return int((settings.grace_seconds / settings.time_scale + SETTLE_SECONDS) * 1_000_000)


async def settled(book: Book, settings: Settings, until: float, say: Say) -> None:
    """Wait for the deadlines that go by in time; the others are not due, and not asked for."""
    settle_us = [told.settles_at_us for told in book.messages.values()]
    settle_us += [told.settles_at_us for told in book.rollups.values()]
    due_us = [at_us + slack_us(settings) for at_us in settle_us if at_us is not None]
    now_us = time.time_ns() // 1000
    left_us = int((until - time.monotonic()) * 1_000_000)
    within = [at_us for at_us in due_us if now_us < at_us < now_us + left_us]
    while within and (left_seconds := (max(within) - time.time_ns() // 1000) / 1e6) > 0:
        say(f"the last deadline goes by in {left_seconds:.0f} s")
        await asyncio.sleep(min(left_seconds, 5.0))


async def at_rest(settings: Settings, clients: Clients, until: float, say: Say) -> bool:
    """Whether no topic has grown for a while."""
    partitions = gather.partitions(settings)
    async with open_reader(clients, partitions) as reader:
        known = await reader.end_offsets(partitions)
        since = time.monotonic()
        while time.monotonic() - since < REST_SECONDS:
            if time.monotonic() > until:
                return False
            await asyncio.sleep(POLL_SECONDS)
            now = await reader.end_offsets(partitions)
            if now != known:
                grown = sum(now[tp] - known[tp] for tp in now)
                say(f"{grown} records more: waiting until nothing is under way")
                known, since = now, time.monotonic()
    return True
