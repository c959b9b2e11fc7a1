"""What `sendtrace up` prints: lines as things happen, then the live figures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
from rich.console import Console
from rich.live import Live
from rich.text import Text

from sendtrace.local.database import Database
from sendtrace.local.figures import Scrape, figures
from sendtrace.local.scrape import scrape
from sendtrace.local.table import line, table

TABLE_SECONDS = 1.0
# Where nobody watches, a line a second would only fill the log.
LINE_SECONDS = 5.0


class Screen:
    """Stdout, as a terminal or as a pipe."""

    def __init__(self, console: Console | None = None) -> None:
        # No colours of rich's own choosing in paths and numbers.
        self._console = console or Console(highlight=False)

    def say(self, text: str) -> None:
        """One thing that happened. Above the table, if that is shown."""
        self._console.print(Text(text), soft_wrap=True)

    async def live(
        self, session: aiohttp.ClientSession, ports: Mapping[str, int], database: Database
    ) -> None:
        """Show the figures until cancelled."""
        if self._console.is_terminal:
            await self._live_table(session, ports, database)
        else:
            await self._lines(session, ports)

    async def _live_table(
        self, session: aiohttp.ClientSession, ports: Mapping[str, int], database: Database
    ) -> None:
        before: Scrape | None = None
        # Drawn when there is something new, not by a thread of rich's four times a second.
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                now = await scrape(session, ports)
                shown = figures(before, now, await database.size_bytes())
                live.update(table(shown), refresh=True)
                before = now
                await asyncio.sleep(TABLE_SECONDS)

    async def _lines(self, session: aiohttp.ClientSession, ports: Mapping[str, int]) -> None:
        before = await scrape(session, ports)
        while True:
            await asyncio.sleep(LINE_SECONDS)
            now = await scrape(session, ports)
            self.say(line(figures(before, now)))
            before = now
