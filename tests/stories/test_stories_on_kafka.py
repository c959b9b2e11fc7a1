"""The ten stories, told at once to edge, joiner and rollup on real Kafka: the cells are the same.

The edge's clock is told the time of each step, and the stories begin 100 hours ago: so all that
they say is long past when the joiner reads it, and the silence after it has gone by. The edge does
not pulse here, since 100 hours of pulses belong to a clock that runs.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby, zip_longest
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
from processors.rollup.parts import part_of
from processors.wiring import ROLLUP
from schemas.codec import decode_lifecycle, decode_rollup
from schemas.lifecycle import Lifecycle
from schemas.numbers import SECOND_US
from schemas.rollup import Rollup
from schemas.topics import LIFECYCLES, QUARANTINE, ROLLUPS
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings

from engine import output, read_all, running_joiner, until_joined
from fakes.cluster import KafkaCluster
from fakes.signed import jwt
from stories.pure import events_of, live
from stories.showing import show_lifecycle, show_rollup
from stories.telling import TALES, Sent, Step, us

SECRETS = {"abcd1234": b"the secret of our account", "99999999": b"another customer's secret"}
# Beyond the last step and every deadline, and well within the week after which all is forgotten.
UNTIL_SECONDS = max(story.until_s for story in TALES)
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.05

Rounds = list[list[Step]]


def is_due(lifecycle: Lifecycle) -> bool:
    """A deadline of it went by in the world's time, and has yet to fire."""
    return lifecycle.due_at_us is not None and lifecycle.due_at_us < time.time_ns() // 1000


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
        self._http = http
        self._public = public
        self._internal = internal
        given.now_us = lambda: self._now_us
        self.start_us = self._now_us = (int(time.time()) - int(UNTIL_SECONDS)) * SECOND_US

    async def tell(self, rounds: Rounds) -> None:
        """Each round is joined, and what is overdue by then has fired, before the next begins."""
        events = 0
        for steps in rounds:
            await self._tell(steps)
            events += sum(len(events_of(step, self.start_us)) for step in steps)
            found = await until_joined(self._cluster.clients, self._cluster.settings, events)
            async with asyncio.timeout(SETTLE_SECONDS):
                while any(is_due(known) for known in found.lifecycles.values()):
                    await asyncio.sleep(POLL_SECONDS)
                    found = await output(self._cluster.clients, self._cluster.settings)

    async def _tell(self, steps: list[Step]) -> None:
        for step in steps:
            self._now_us = us(self.start_us, step.at_s)
            body = step.body(self.start_us)
            if isinstance(step, Sent):
                url, headers = self._internal + "/sends", {}
            else:
                url, headers = self._public + step.path, {"Content-Type": step.content_type}
                if step.account:
                    secret = SECRETS[step.account]
                    issued_s = self._now_us // SECOND_US
                    headers["Authorization"] = jwt(body, secret, step.account, iat=issued_s)
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
                    await asyncio.sleep(POLL_SECONDS)
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


def in_order() -> Rounds:
    """A step of each story at a time."""
    rounds = zip_longest(*(story.steps for story in TALES))
    return [[step for step in steps if step is not None] for steps in rounds]


def shuffled_and_twice() -> Rounds:
    """All of them at once."""
    steps = [step for story in TALES for step in (*story.steps, *story.steps)]
    random.Random(0).shuffle(steps)
    return [steps]


@pytest.mark.parametrize("order", [in_order, shuffled_and_twice])
async def test_the_same_follows_on_kafka(
    order: Callable[[], Rounds], kafka_settings: Settings, tmp_path: Path
) -> None:
    settings = replace(kafka_settings, accounts_file=str(accounts_file(tmp_path)))
    cluster = KafkaCluster(settings, tmp_path / "state")
    rounds = order()
    async with running(settings, cluster) as told:
        await told.tell(rounds)
        await told.until_shown()
    assert await told.shown() == (MESSAGES, SENDS)
    found = await output(cluster.clients, settings)
    assert found.events("new", "repeat") == found.events()
    assert found.events() == sum(
        len(events_of(step, told.start_us)) for steps in rounds for step in steps
    )
    expected = {k: v for story in TALES for k, v in live(story, told.start_us).items()}
    assert {k: replace(v, due_at_us=None) for k, v in found.lifecycles.items()} == expected
    members = {
        (key, item.part) for key, known in (await told.rollups()).items() for item in known.items
    }
    assert members == {part for part in map(part_of, expected.values()) if part is not None}
    assert await read_all(cluster.clients, settings, QUARANTINE) == []
    if order is in_order:
        # In a world that is 100 hours late each deadline fires, and what comes then withdraws it.
        assert await outcomes_of(cluster, "lost-1") == ["missing", "unconfirmed", "expired"]
        assert await outcomes_of(cluster, "sms-3") == ["delivered"]


async def outcomes_of(cluster: KafkaCluster, message_id: str) -> list[str]:
    """One after the other, as subscribers see them. What is pending in between is left out."""
    written = await read_all(cluster.clients, cluster.settings, LIFECYCLES)
    summaries = [decode_lifecycle(v).summary for k, v in written if k.decode() == message_id]
    outcomes = [known.outcome for known in summaries if known and known.outcome != "pending"]
    return [outcome for outcome, _ in groupby(outcomes)]
