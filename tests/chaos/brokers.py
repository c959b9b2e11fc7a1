"""Brokers for tests that kill them: each by its number, and a proxy in front of each if wanted.

A broker tells clients where it is, so a proxy must be what it advertises. With proxies each broker
has a second listener, PROXIED, that is told as the proxy's port: who bootstraps through the
proxies stays behind them, and who bootstraps through `bootstrap` never meets them. Brokers talk to
each other past the proxies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from sendtrace.local.brokers import Broker, bootstrap, start_broker
from sendtrace.local.kafka import LocalKafka
from sendtrace.local.process import FREE_PORTS, choose_port

from chaos.freeze import resume_tree, suspend_tree
from chaos.proxy import Proxy


def free_ports(count: int) -> list[int]:
    """Different free ports of loopback."""
    found: set[int] = set()
    while len(found) < count:
        found.add(choose_port(0))
    assert found <= set(FREE_PORTS)
    return list(found)


class Brokers:
    """A cluster of one or three. Numbers are 1, 2, 3. Whatever happens, `close` ends them all."""

    def __init__(self, places: tuple[Broker, ...], proxies: dict[int, Proxy]) -> None:
        self._places = places
        self._running: dict[int, LocalKafka] = {}
        self._suspended: set[int] = set()
        self.proxies = proxies
        self.bootstrap = bootstrap(places)
        self.proxied_bootstrap = ",".join(f"127.0.0.1:{p.port}" for p in proxies.values())

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(place.number for place in self._places)

    async def start(self, number: int) -> None:
        """Returns when it takes requests. One that runs is an error."""
        assert not self.is_alive(number)
        place = self._places[number - 1]
        self._running[number] = await start_broker(place, self._places)

    async def start_all(self) -> None:
        """Side by side those that do not run: one of three alone never gets ready."""
        async with asyncio.TaskGroup() as tasks:
            for number in self.numbers:
                if not self.is_alive(number):
                    tasks.create_task(self.start(number))

    async def stop(self, number: int) -> None:
        """A controlled stop: what it leads is given to the others first."""
        self.resume(number)
        await self._running[number].stop()

    def kill(self, number: int) -> None:
        """SIGKILL; returns when it is gone."""
        self._suspended.discard(number)
        self._running[number].kill()

    async def suspend(self, number: int) -> None:
        """SIGSTOP: it holds its connections and answers nobody."""
        self._suspended.add(number)
        await suspend_tree(self.pid(number))

    def resume(self, number: int) -> None:
        if number in self._suspended:
            self._suspended.remove(number)
            resume_tree(self.pid(number))

    def is_alive(self, number: int) -> bool:
        return number in self._running and self._running[number].running

    def pid(self, number: int) -> int:
        return self._running[number].pid

    async def close(self) -> None:
        """Nothing is kept, so nobody waits for a controlled stop."""
        for broker in self._running.values():
            broker.kill()
        for proxy in self.proxies.values():
            await proxy.close()


@asynccontextmanager
async def running_brokers(
    directory: Path, count: int, *, is_proxied: bool = False
) -> AsyncIterator[Brokers]:
    """A cluster on free ports, ended at the end whatever happens."""
    ports = iter(free_ports(3 * count))
    proxies: dict[int, Proxy] = {}
    places = []
    for number in range(1, count + 1):
        place = Broker(number, directory / f"kafka-{number}", next(ports), next(ports))
        if is_proxied:
            proxies[number] = await Proxy.start(next(ports))
            place = replace(place, overrides=_behind(proxies[number], place))
        places.append(place)
    brokers = Brokers(tuple(places), proxies)
    try:
        await brokers.start_all()
        yield brokers
    finally:
        await brokers.close()


def _behind(proxy: Proxy, broker: Broker) -> dict[str, str]:
    own, proxied = f"PLAINTEXT://{broker.address}", "PROXIED://127.0.0.1"
    controller = f"CONTROLLER://127.0.0.1:{broker.controller_port}"
    return {
        "listeners": f"{own},{proxied}:{proxy.target_port},{controller}",
        "advertised.listeners": f"{own},{proxied}:{proxy.port}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        # One that came back leads nothing for 5 minutes by default: nobody would use its proxy.
        "leader.imbalance.check.interval.seconds": "5",
    }
