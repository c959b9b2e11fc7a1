"""Two exporters over real Kafka: silent until whole, and then the same to the byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
from aiohttp import web

from schemas.topics import STATUSES
from sendtrace.runtime.kafka import Clients
from sendtrace.runtime.service import Health, http_server
from sendtrace.runtime.settings import Settings
from sinks.exporter import TotalsPage, export, routes
from sinks.families import Progress
from sinks.sums import Sums

from engine import Traffic, produce, running_joiner, until_joined
from fakes.cluster import KafkaCluster

MESSAGES = 500


class Scraped(NamedTuple):
    status: int
    own: list[str]
    business: list[str]

    def value(self, name: str) -> float:
        return float(next(line for line in self.own if line.startswith(f"{name} ")).split()[1])


class Exporter(NamedTuple):
    url: str
    http: aiohttp.ClientSession
    health: Health

    async def scrape(self) -> Scraped:
        async with self.http.get(self.url) as response:
            text = await response.text()
        lines = text.splitlines()
        own = [line for line in lines if "sendtrace_exporter_" in line]
        return Scraped(response.status, own, [line for line in lines if line not in own])


@asynccontextmanager
async def exporting(settings: Settings, clients: Clients) -> AsyncIterator[Exporter]:
    stopping, health, sums, progress = asyncio.Event(), Health(), Sums(), Progress()
    app = web.Application()
    app.add_routes(routes(health, TotalsPage(sums, progress)))
    async with (
        http_server(app, "127.0.0.1", 0) as port,
        aiohttp.ClientSession() as http,
        asyncio.TaskGroup() as group,
    ):
        exporter = Exporter(f"http://127.0.0.1:{port}/metrics", http, health)
        assert (await exporter.scrape()).status == 503
        group.create_task(export(clients, settings, sums, health, stopping, progress))
        try:
            yield exporter
        finally:
            stopping.set()


async def test_two_exporters_show_the_same(kafka_settings: Settings, tmp_path: Path) -> None:
    settings = kafka_settings
    cluster = KafkaCluster(settings, tmp_path / "state")
    clients = cluster.clients
    # The first one reads along, many versions of each record; the second one comes afterwards.
    async with (
        exporting(settings, clients) as first,
        running_joiner(settings, clients, cluster.open_store),
    ):
        traffic = Traffic(MESSAGES)
        for start in range(0, len(traffic.records), 100):
            await produce(clients, settings, traffic.records[start : start + 100])
        await until_joined(clients, settings, len(traffic.records))
        async with exporting(settings, clients) as second:
            async with asyncio.timeout(60):
                while not (first.health.ready and second.health.ready):
                    await asyncio.sleep(0.02)
                # What is shown may be as old as a rendering, and the watch asks every two seconds.
                while (left := await first.scrape()).business != (
                    right := await second.scrape()
                ).business or f'input="{STATUSES}",result="repeat"}} {MESSAGES}.0' not in "".join(
                    left.business
                ):
                    await asyncio.sleep(0.1)
    assert left.status == right.status == 200
    assert len(left.business) > 100
    for page in (left, right):
        assert page.value("sendtrace_exporter_lag_records") >= 0
        assert page.value("sendtrace_exporter_seconds_since_poll") < 5
