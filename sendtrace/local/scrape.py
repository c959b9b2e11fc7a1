"""Asks the stack's processes how they are, over HTTP on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import aiohttp

from sendtrace.local.figures import Sample, Scrape, samples

# A process that takes longer than the table's period has nothing to show this time.
SCRAPE_TIMEOUT_SECONDS = 0.8
READY_POLL_SECONDS = 0.1


async def scrape(session: aiohttp.ClientSession, ports: Mapping[str, int]) -> Scrape:
    """The metrics pages of all processes, as far as they answer."""
    pages = await asyncio.gather(*(_page(session, port) for port in ports.values()))
    answered = {name: page for name, page in zip(ports, pages, strict=True) if page is not None}
    return Scrape(time.monotonic(), answered)


async def wait_ready(session: aiohttp.ClientSession, port: int) -> None:
    """Return once /readyz answers 200. The caller bounds the time."""
    while (await _get(session, port, "readyz"))[0] != 200:
        await asyncio.sleep(READY_POLL_SECONDS)


async def unready_reason(session: aiohttp.ClientSession, port: int) -> str | None:
    """Why a process is not ready, in its own words; None when it is."""
    status, text = await _get(session, port, "readyz")
    if status == 200:
        return None
    return text.strip() if status else "does not answer"


async def _page(session: aiohttp.ClientSession, port: int) -> tuple[Sample, ...] | None:
    status, text = await _get(session, port, "metrics")
    return samples(text) if status == 200 else None


async def _get(session: aiohttp.ClientSession, port: int, path: str) -> tuple[int, str]:
    """Status and text; status 0 when nobody answers in time."""
    timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_SECONDS)
    try:
        async with session.get(f"http://127.0.0.1:{port}/{path}", timeout=timeout) as response:
            return response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""
