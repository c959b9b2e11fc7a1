"""The ten stories, told at once to edge, joiner and rollup on real Kafka: the cells are the same.

The edge's clock is told the time of each step, and the stories begin 100 hours ago: so all that
they say is long past when the joiner reads it, and the silence after it has gone by. The edge does
not pulse here, since 100 hours of pulses belong to a clock that runs.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from ingest.app import dependencies, internal_server, public_server
from ingest.handlers import Dependencies
from ingest.metrics import Metrics
from ingest.publish import Publisher
from ingest.reread import reread_accounts
from processors.rolling import decode_rollup
from processors.rollup.parts import part_of
from processors.wiring import ROLLUP
from schemas.lifecycle import Lifecycle
from schemas.numbers import SECOND_US
from schemas.rollup import Rollup
from schemas.topics import QUARANTINE, ROLLUPS
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings

from engine import output, read_all, running_joiner
from fakes.cluster import KafkaCluster
from fakes.signed import jwt
from stories.pure import events_of, live
from stories.showing import show_lifecycle, show_rollup
from stories.telling import TALES, Sent, Step, us

SECRETS = {"abcd1234": b"the secret of our account", "99999999": b"another customer's secret"}
# Beyond the last step and every deadline, and well within the week after which all is forgotten.
UNTIL_SECONDS = max(story.until_s for story in TALES)
SETTLE_SECONDS = 30.0


class Told:
    """An edge whose clock is told, and what came of it."""

    def __init__(
        self,
        cluster: KafkaCluster,
        given: Dependencies,
        http: aiohttp.ClientSession,
        public: str,
        internal: str,
    ) -> None:
        self._cluster = cluster
        self._given = given
        self._http = http
        self._public = public
        self._internal = internal
        self.start_us = (int(time.time()) - int(UNTIL_SECONDS)) * SECOND_US

    async def tell(self, steps: Sequence[Step]) -> None:
        for step in steps:
            at_us = us(self.start_us, step.at_s)
            self._given.now_us = lambda at_us=at_us: at_us
            body = step.body(self.start_us)
            if isinstance(step, Sent):
                url, headers = self._internal + "/sends", {}
            else:
                url, headers = self._public + step.path, {"Content-Type": step.content_type}
                if step.account:
                    secret = SECRETS[step.account]
                    issued = {"iat": at_us // SECOND_US}
                    headers["Authorization"] = jwt(body, secret, step.account, **issued)
            async with self._http.post(url, data=body, headers=headers) as response:
                assert response.status == 200, await response.text()

    async def lifecycles(self) -> dict[str, Lifecycle]:
        return (await output(self._cluster.clients, self._cluster.settings)).lifecycles

    async def rollups(self) -> dict[str, Rollup]:
        found = await read_all(self._cluster.clients, self._cluster.settings, ROLLUPS)
        return {key.decode(): decode_rollup(value) for key, value in dict(found).items()}

    async def until_shown(self) -> None:
        """Wait until the cells are as told. What they are is asserted afterwards."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not await self._is_shown():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return

    async def _is_shown(self) -> bool:
        messages, rollups = await self.shown()
        return (messages, rollups) == (MESSAGES, SENDS)

    async def shown(self) -> tuple[object, object]:
        lifecycles, rollups = await self.lifecycles(), await self.rollups()
        return (
            {key: show_lifecycle(known, self.start_us) for key, known in lifecycles.items()},
            {key: show_rollup(known, self.start_us) for key, known in rollups.items()},
        )


MESSAGES = {key: cells for story in TALES for key, cells in story.messages.items()}
SENDS = {key: cells for story in TALES for key, cells in story.rollups.items()}


def accounts_file(directory: Path) -> Path:
    lines = []
    for name, secret in SECRETS.items():
        (directory / name).write_bytes(secret)
        lines.append(f'[accounts.{name}]\nmessages = "required"\nsms = "optional"\n')
        lines.append(
            f'alerts = "optional"\nsig_method = "sha256"\nsignature_secrets = ["{name}"]\n'
        )
    path = directory / "accounts.toml"
    path.write_text("".join(lines))
    return path


@asynccontextmanager
async def running(settings: Settings, cluster: KafkaCluster) -> AsyncIterator[Told]:
    """Edge, joiner and rollup. Stopped in order at the end, which commits what was read."""
    registry, clients = CollectorRegistry(), cluster.clients
    metrics = Metrics(registry)
    publisher = Publisher(clients, settings, metrics)
    given = dependencies(settings, publisher, metrics)
    accounts = reread_accounts(settings)
    assert accounts is not None
    given.accounts = accounts.value
    await publisher.start()
    try:
        async with (
            running_joiner(settings, clients, cluster.open_store),
            running_joiner(settings, clients, cluster.rollup_store, process=ROLLUP),
            public_server(given, settings, 0) as public,
            internal_server(given, Health(), registry, settings, 0) as internal,
            aiohttp.ClientSession() as http,
        ):
            hosts = (f"http://127.0.0.1:{port}" for port in (public, internal))
            yield Told(cluster, given, http, *hosts)
    finally:
        await publisher.stop()


def in_order() -> list[Step]:
    """As the world would see them, all ten at once."""
    return sorted((step for story in TALES for step in story.steps), key=lambda step: step.at_s)


def shuffled_and_twice() -> list[Step]:
    steps = [*in_order(), *in_order()]
    random.Random(0).shuffle(steps)
    return steps


@pytest.mark.parametrize("order", [in_order, shuffled_and_twice])
async def test_the_same_follows_on_kafka(
    order: Callable[[], list[Step]], kafka_settings: Settings, tmp_path: Path
) -> None:
    settings = replace(kafka_settings, accounts_file=str(accounts_file(tmp_path)))
    cluster = KafkaCluster(settings, tmp_path / "state")
    steps = order()
    async with running(settings, cluster) as told:
        await told.tell(steps)
        await told.until_shown()
    assert await told.shown() == (MESSAGES, SENDS)
    found = await output(cluster.clients, settings)
    assert found.events("new", "repeat") == found.events()
    assert found.events() == sum(len(events_of(step, told.start_us)) for step in steps)
    expected = {k: v for story in TALES for k, v in live(story, told.start_us).items()}
    assert {k: replace(v, due_at_us=None) for k, v in found.lifecycles.items()} == expected
    members = {
        (key, item.part) for key, known in (await told.rollups()).items() for item in known.items
    }
    assert members == {part for part in map(part_of, expected.values()) if part is not None}
    assert await read_all(cluster.clients, settings, QUARANTINE) == []
