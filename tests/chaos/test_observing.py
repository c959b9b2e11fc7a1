"""A fault that did nothing is not seen, and what ended by itself was not killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest

from chaos import observing
from chaos.driver import Driver
from chaos.faults import CUT, CUT_HALF_WAY, DELAYED, STALLED, BadWeather, Killed, MembersAdded
from chaos.observing import Before, is_seen
from chaos.proxy import FAIR, Proxy, Weather
from chaos.stack import LocalStack, Stack

WEATHERS = pytest.mark.parametrize(
    "weather", [CUT, CUT_HALF_WAY, STALLED, DELAYED], ids=["cut", "half-way", "stalled", "delayed"]
)


class Links:
    """As much of a stack as weather needs."""

    def __init__(self, links: Mapping[str, Proxy]) -> None:
        self.links = links
        self.parts = ()


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "SEEN_SECONDS", 1.0)
    monkeypatch.setattr(observing, "SILENCE_SECONDS", 0.1)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that answers every byte with itself."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1_000):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    started = await Proxy.start(server.sockets[0].getsockname()[1])
    yield started
    await started.close()
    server.close()


async def talk(port: int, seconds: float = 0.01) -> None:
    """A client that says something every so many seconds, and connects anew when it is cut off."""
    while True:
        with suppress(ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while True:
                    await asyncio.sleep(seconds)
                    writer.write(bytes(500))
                    await writer.drain()
                    await reader.readexactly(500)
            except asyncio.IncompleteReadError:
                pass
            finally:
                writer.close()


async def seen(proxy: Proxy, fault: BadWeather, really: Weather, every_seconds: float) -> bool:
    """With a client at work, and weather that is perhaps not what the fault says."""
    stack = cast("Stack", Links({fault.link: proxy}))
    client = asyncio.create_task(talk(proxy.port, every_seconds))
    try:
        while not proxy.connections:
            await asyncio.sleep(0.01)
        before = Before.of(stack)
        await proxy.set(really)
        return await is_seen(stack, fault, before)
    finally:
        client.cancel()
        await asyncio.wait([client])


@WEATHERS
async def test_weather_that_somebody_meets_is_seen(proxy: Proxy, weather: Weather) -> None:
    assert await seen(proxy, BadWeather("edge", weather), weather, 0.01)


@WEATHERS
async def test_weather_that_was_fair_is_not_seen(proxy: Proxy, weather: Weather) -> None:
    assert not await seen(proxy, BadWeather("edge", weather), FAIR, 0.01)


async def test_nobody_met_the_silence_of_a_link_that_is_not_used(proxy: Proxy) -> None:
    assert not await seen(proxy, BadWeather("edge", STALLED), STALLED, 60)


class Doomed(Links):
    """A stack whose loader ends by itself as it is to be killed, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__({})
        self.brokers = SimpleNamespace(numbers=(1,))
        self.times = times
        self.done: list[str] = []

    async def kill(self, part: str) -> None:
        if self.times:
            self.times -= 1
            raise psutil.NoSuchProcess(1, part)
        self.done.append("killed")

    async def kill_spare(self, part: str, number: int) -> None:
        await self.kill(part)

    async def leave_spare(self, part: str, number: int) -> None: ...

    async def start(self, part: str) -> None:
        self.done.append("started")


@pytest.mark.parametrize(
    ("times", "is_done", "done"),
    [(0, True, ["killed"]), (1, True, ["started", "killed"]), (2, False, ["started"])],
)
async def test_what_ended_by_itself_is_started_and_killed(
    times: int, is_done: bool, done: list[str], tmp_path: Path
) -> None:
    stack = Doomed(times)
    driver = Driver(cast("LocalStack", stack), tmp_path, 1)
    assert await driver._inject(Killed(("loader",))) is is_done
    assert stack.done == done


@pytest.mark.parametrize("times", [0, 1])
async def test_a_spare_that_ended_by_itself_was_not_killed(times: int, tmp_path: Path) -> None:
    driver = Driver(cast("LocalStack", Doomed(times)), tmp_path, 1)
    assert await driver._heal(MembersAdded("joiner", 1)) is not bool(times)
