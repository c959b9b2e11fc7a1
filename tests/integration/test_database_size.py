"""The size of the warehouse in the live table: what PostgreSQL does must not end `up`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from sendtrace.local.database import Database


async def test_a_server_that_answers(postgres_dsn: str) -> None:
    assert (await Database(postgres_dsn).size_bytes() or 0) > 1_000_000


async def test_a_server_that_falls_silent_after_it_was_asked(postgres_dsn: str) -> None:
    async with silent_after(b"pg_database_size", postgres_dsn) as dsn:
        assert await Database(dsn).size_bytes() is None


@asynccontextmanager
async def silent_after(words: bytes, dsn: str) -> AsyncIterator[str]:
    """The server behind a proxy that passes nothing on any more once it saw these words."""
    host, port = urlsplit(dsn).hostname, urlsplit(dsn).port
    writers: list[asyncio.StreamWriter] = []

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(65_536)) and words not in data:
            writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(host, port)
        writers.extend((writer, to_there))
        await asyncio.gather(passed(reader, to_there), passed(there, writer))

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield dsn.replace(f":{port}/", f":{proxy.sockets[0].getsockname()[1]}/")
    finally:
        proxy.close()
        for writer in writers:
            writer.close()
