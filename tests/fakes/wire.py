"""A client that says what no library would, and a whole edge for it to say it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingest.app import serve
from sendtrace.runtime.kafka import Clients
from sendtrace.runtime.settings import Settings


class Wire:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, seconds: float = 60.0) -> tuple[int, bytes]:
        """Status and body of the next answer. Status 0: the connection ended without one."""
        try:
            async with asyncio.timeout(seconds):
                head = await self.reader.readuntil(b"\r\n\r\n")
                status = int(head.split(b" ", 2)[1])
                lower = head.lower()
                length = lower.partition(b"content-length:")[2].partition(b"\r\n")[0]
                return status, await self.reader.readexactly(int(length or 0))
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""

    async def is_closed(self, seconds: float = 60.0) -> bool:
        """Whether the other side ends the connection within that time."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


@asynccontextmanager
async def running_edge(settings: Settings, clients: Clients) -> AsyncIterator[tuple[int, int]]:
    """The process as it is, in this loop. Yields the public and the internal port."""
    stopping = asyncio.Event()
    ports: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(
        serve(settings, clients, stopping, lambda *bound: ports.set_result(bound))
    )
    await asyncio.wait([task, ports], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield ports.result() if ports.done() else await task  # type: ignore[misc]
    finally:
        stopping.set()
        await asyncio.wait_for(task, 60)
