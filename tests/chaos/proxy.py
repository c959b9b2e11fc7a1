"""A TCP proxy that makes bad weather: it delays, stalls, cuts half-way with RST, and heals.

It stands on loopback in front of one port. Kafka tells its clients where its brokers are, so a
proxy in front of a broker needs a listener of its own that is advertised with the proxy's port
(`brokers.py`); PostgreSQL and the edge need nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Self

# What waits in each direction of a connection is bounded by a few of these: a slow reader slows
# its writer down, as without us.
CHUNK_BYTES = 16 * 1024
CONNECTIONS_LIMIT = 500
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Weather:
    """How connections fare. The default is fair weather."""

    # Every chunk waits this long, in both directions: latency, and less throughput with it.
    delay_seconds: float = 0.0
    # Nothing passes, and nobody is told: as a network that swallows packets.
    is_stalled: bool = False
    # After so many bytes a connection, in both directions together, both ends get RST. 0: at once.
    cut_after_bytes: int | None = None


FAIR = Weather()


class Proxy:
    """One listening port in front of one target port. ``set`` changes the weather at once."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.passed_bytes = 0
        self.cuts = 0
        # Pieces that came while the weather was slow or silent, and so met it.
        self.held = 0
        self.weather = FAIR
        self._changed = asyncio.Condition()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    async def start(cls, target_port: int) -> Self:
        proxy = cls(target_port)
        proxy._server = await asyncio.start_server(
            proxy._serve, "127.0.0.1", 0, limit=CHUNK_BYTES, backlog=CONNECTIONS_LIMIT
        )
        proxy.port = proxy._server.sockets[0].getsockname()[1]
        return proxy

    async def set(self, weather: Weather) -> None:
        """From now on, for open connections and new ones; bytes count from here."""
        async with self._changed:
            self.weather = weather
            for link in self._links:
                link.passed_bytes = 0
                if weather.cut_after_bytes == 0:
                    self._cut(link)
            self._changed.notify_all()

    async def heal(self) -> None:
        """Fair weather. What was stalled goes on; what was cut stays cut, clients connect anew."""
        await self.set(FAIR)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.reset()
        async with self._changed:
            self.weather = FAIR
            self._changed.notify_all()
        async with asyncio.timeout(CONNECT_SECONDS):
            while self._links:
                await asyncio.sleep(0.01)

    @property
    def connections(self) -> int:
        return len(self._links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link([writer])
        if self.weather.cut_after_bytes == 0 or len(self._links) >= CONNECTIONS_LIMIT:
            self._cut(link)
            return
        self._links.add(link)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                back, forth = await asyncio.open_connection(
                    "127.0.0.1", self.target_port, limit=CHUNK_BYTES
                )
            link.writers.append(forth)
            for each in link.writers:
                each.transport.set_write_buffer_limits(high=CHUNK_BYTES)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(link, reader, forth))
                tasks.create_task(self._pump(link, back, writer))
        except* (OSError, TimeoutError):
            # One end is gone, or the target was never there: the other end is told the same way.
            link.reset()
        finally:
            self._links.discard(link)
            await link.close()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            self.held += self.weather.is_stalled or self.weather.delay_seconds > 0
            async with self._changed:
                await self._changed.wait_for(lambda: not self.weather.is_stalled)
            await asyncio.sleep(self.weather.delay_seconds)
            limit = self.weather.cut_after_bytes
            if limit is not None:
                chunk = chunk[: max(limit - link.passed_bytes, 0)]
            writer.write(chunk)
            await writer.drain()
            link.passed_bytes += len(chunk)
            self.passed_bytes += len(chunk)
            if limit is not None and link.passed_bytes >= limit:
                self._cut(link)
                return
        writer.write_eof()

    def _cut(self, link: _Link) -> None:
        self.cuts += 1
        link.reset()


class _Link:
    """The two ends of one connection through us."""

    def __init__(self, writers: list[asyncio.StreamWriter]) -> None:
        self.writers = writers
        self.passed_bytes = 0

    def reset(self) -> None:
        """RST to both ends, not FIN: a close without lingering drops what is unsent."""
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):  # it was reset: there is nothing left to flush
                await writer.wait_closed()
