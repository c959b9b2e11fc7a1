"""All stages in one event loop, over any cluster and warehouse: the walkthrough's machinery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingest.app import serve
from processors.wiring import ROLLUP
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings
from sinks.exporter import export
from sinks.families import TotalsCollector
from sinks.loader import load
from sinks.postgres import Warehouse
from sinks.sums import Sums

from engine import running_joiner
from fakes.cluster import Cluster


@dataclass
class Pipeline:
    """A running pipeline: where to post, and what its exporter shows."""

    http: aiohttp.ClientSession
    public: str
    internal: str
    registry: CollectorRegistry

    def figure(self, name: str, **labels: str) -> float:
        """The sum over all series of a metric that have these labels."""
        families = text_string_to_metric_families(generate_latest(self.registry).decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def running_pipeline(
    settings: Settings, cluster: Cluster, warehouse: Warehouse
) -> AsyncIterator[Pipeline]:
    """Edge, joiner, rollup, exporter and loader; all are stopped in order at the end."""
    clients = cluster.clients
    stopping = asyncio.Event()
    ports: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    sums, registry, exporting = Sums(), CollectorRegistry(), Health()
    registry.register(TotalsCollector(sums))
    async with (
        running_joiner(settings, clients, cluster.open_store),
        running_joiner(settings, clients, cluster.rollup_store, process=ROLLUP),
        aiohttp.ClientSession() as http,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(
            serve(settings, clients, stopping, lambda *bound: ports.set_result(bound))
        )
        group.create_task(export(clients, settings, sums, exporting, stopping))
        group.create_task(load(clients, warehouse, settings, Health(), stopping))
        public, internal = await asyncio.wait_for(ports, 60)
        yield Pipeline(http, f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}", registry)
        stopping.set()
