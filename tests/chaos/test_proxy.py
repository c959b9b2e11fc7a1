"""The proxy passes bytes unchanged, and does to them what it is told."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator

import pytest

from chaos.proxy import CHUNK_BYTES, Proxy, Weather


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """A server that answers every byte with itself."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[Proxy]:
    started = await Proxy.start(echo)
    yield started
    await started.close()
    assert started.connections == 0


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, proxy: Proxy) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, data: bytes, seconds: float = 30.0) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(seconds):
            return await self.reader.readexactly(len(data))

    def close(self) -> None:
        self.writer.close()


async def test_many_bytes_pass_unchanged_both_ways(proxy: Proxy) -> None:
    client = await Client.connect(proxy)
    data = os.urandom(3_000_000)
    assert hashlib.sha256(await client.ask(data)).digest() == hashlib.sha256(data).digest()
    assert proxy.passed_bytes == 2 * len(data)
    client.writer.write_eof()
    assert await asyncio.wait_for(client.reader.read(), 60) == b""  # the end is passed on, too
    client.close()


async def test_a_delay_holds_every_answer_up_until_it_is_healed(proxy: Proxy) -> None:
    client = await Client.connect(proxy)
    await proxy.set(Weather(delay_seconds=0.15))

    async def seconds() -> float:
        began = time.monotonic()
        assert await client.ask(b"ask") == b"ask"
        return time.monotonic() - began

    assert await seconds() >= 0.3  # there and back
    await proxy.heal()
    # On a busy machine any one may take long; the delay would hold each up.
    assert min([await seconds() for _ in range(5)]) < 0.3
    client.close()


async def test_a_stall_says_nothing_and_goes_on_when_healed(proxy: Proxy) -> None:
    old = await Client.connect(proxy)
    assert await old.ask(b"before") == b"before"
    await proxy.set(Weather(is_stalled=True))
    new = await Client.connect(proxy)  # the connection is made: only the bytes do not come
    for client in (old, new):
        with pytest.raises(TimeoutError):
            await client.ask(b"lost?", seconds=0.2)
    await proxy.heal()
    for client in (old, new):
        assert await asyncio.wait_for(client.reader.readexactly(5), 60) == b"lost?"
        client.close()


async def test_a_stalled_proxy_keeps_little_and_slows_the_sender_down(proxy: Proxy) -> None:
    client = await Client.connect(proxy)
    await proxy.set(Weather(is_stalled=True))
    client.writer.transport.set_write_buffer_limits(high=CHUNK_BYTES)
    client.writer.write(bytes(32_000_000))  # more than the kernel's buffers of both ends take
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.writer.drain(), 0.5)
    assert proxy.passed_bytes == 0
    client.writer.transport.abort()
    await proxy.heal()


async def test_a_cut_half_way_passes_so_many_bytes_and_resets(proxy: Proxy) -> None:
    client = await Client.connect(proxy)
    assert await client.ask(b"before") == b"before"
    await proxy.set(Weather(cut_after_bytes=1_000))
    passed_before = proxy.passed_bytes
    with pytest.raises(ConnectionResetError):
        await client.ask(bytes(5_000))
    assert proxy.passed_bytes - passed_before == 1_000
    assert proxy.cuts == 1
    await proxy.heal()
    again = await Client.connect(proxy)
    assert await again.ask(b"after") == b"after"
    again.close()
    client.close()


async def test_a_cut_resets_every_connection_and_refuses_new_ones(proxy: Proxy) -> None:
    clients = [await Client.connect(proxy) for _ in range(3)]
    for client in clients:
        assert await client.ask(b"x") == b"x"
    await proxy.set(Weather(cut_after_bytes=0))
    for client in (*clients, await Client.connect(proxy)):
        with pytest.raises(ConnectionResetError):
            await client.ask(b"x")
        client.close()
    assert proxy.cuts == 4
    await proxy.heal()


async def test_a_target_that_is_away_resets_and_one_that_comes_back_serves(proxy: Proxy) -> None:
    target, proxy.target_port = proxy.target_port, 1  # where nobody listens
    away = await Client.connect(proxy)
    with pytest.raises(ConnectionResetError):
        await away.ask(b"x")
    away.close()
    proxy.target_port = target
    back = await Client.connect(proxy)
    assert await back.ask(b"x") == b"x"
    back.close()
