"""What stands for SIGKILL in the tests, on real Kafka: a client is dead, whenever it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

from aiokafka.abc import ConsumerRebalanceListener

from schemas.topics import STATUSES
from sendtrace.runtime.kafka import Partition, stop_quietly
from sendtrace.runtime.settings import Settings

from fakes.cluster import ImpatientClients, KafkaCluster


class Killer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Kills its member when a rebalance revokes what it has."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self.cluster = cluster
        self.victim: Any = None
        self.killing: asyncio.Task[None] | None = None

    async def on_partitions_revoked(self, revoked: Collection[Partition]) -> None:
        if revoked:
            self.killing = asyncio.create_task(self.cluster.kill(self.victim))

    async def on_partitions_assigned(self, assigned: Collection[Partition]) -> None: ...


async def test_a_member_that_is_killed_while_it_joins_again(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    """aiokafka cancels the heartbeat and awaits it: a cancellation of its own is lost there."""
    cluster = KafkaCluster(kafka_settings, tmp_path)
    cluster.clients = ImpatientClients(kafka_settings)
    topics = [kafka_settings.topic(STATUSES)]
    killer = Killer(cluster)
    victim = killer.victim = cluster.clients.group_consumer("killing", "victim")
    victim.subscribe(topics, listener=killer)
    other = cluster.clients.group_consumer("killing", None)
    other.subscribe(topics)
    async with asyncio.timeout(40):
        await victim.start()
        inside: Any = victim
        tasks = [inside._coordinator._coordination_task, inside._fetcher._fetch_task]
        try:
            await other.start()  # once the group has given the victim up
        finally:
            await stop_quietly(other)
        assert killer.killing is not None
        await killer.killing
    assert all(task.done() for task in tasks)
