"""A cluster under test, in memory or real, with what tests need beside the port."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from broken_topics import add_partition, delete_until, remake

from processors.joining import INPUTS
from processors.store import RocksStore, Store
from processors.wiring import group_of
from schemas.topics import BY_NAME, partition_of
from sendtrace.runtime.kafka import Clients, Consumer, KafkaClients, Producer, stop_quietly
from sendtrace.runtime.settings import Settings

from .log import MemoryConsumer, MemoryLog
from .store import MemoryStore
from waiting import end, within

# What ends a client's tasks takes a few rounds of the event loop.
KILL_SECONDS = 20.0


class Cluster(Protocol):
    settings: Settings
    clients: Clients
    poll_seconds: float  # between two looks at what was committed
    join_seconds: float  # what a new member takes to ask for its place

    def open_store(self, partition: int) -> Store: ...
    def second_store(self, partition: int) -> Store: ...
    def rollup_store(self, partition: int) -> Store: ...
    def lose_stores(self) -> None: ...
    def home(self, key: str) -> int: ...
    async def move_group_offsets(self, offset: int) -> None: ...
    async def remake(self, *topics: str) -> None: ...
    async def delete_until(self, partition: TopicPartition, offset: int) -> None: ...
    async def add_partition(self, topic: str) -> None: ...

    async def kill(self, client: Producer | Consumer) -> None:
        """What SIGKILL leaves of a client: nothing, and nobody was told."""
        ...


class MemoryCluster:
    """Stores outlive their tasks, as disks do."""

    poll_seconds = 0.002
    join_seconds = 0.0

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log = MemoryLog(settings.partitions)
        self.clients: Clients = self.log
        self._stores: dict[tuple[str, int], MemoryStore] = {}

    def open_store(self, partition: int) -> Store:
        return self._stores.setdefault(("first", partition), MemoryStore())

    def second_store(self, partition: int) -> Store:
        return self._stores.setdefault(("second", partition), MemoryStore())

    def rollup_store(self, partition: int) -> Store:
        return self._stores.setdefault(("rollup", partition), MemoryStore())

    def lose_stores(self) -> None:
        self._stores.clear()

    def home(self, key: str) -> int:
        return partition_of(key.encode(), self.settings.partitions)

    async def move_group_offsets(self, offset: int) -> None:
        self.log.offsets = dict.fromkeys(self.log.offsets, offset)

    async def remake(self, *topics: str) -> None:
        for topic in topics:
            self.log.remake(self.settings.topic(topic))

    async def delete_until(self, partition: TopicPartition, offset: int) -> None:
        self.log.delete_until(partition, offset)

    async def add_partition(self, topic: str) -> None:
        name = self.settings.topic(topic)
        self.log.counts[name] = self.settings.partitions * BY_NAME[topic].stages + 1

    async def kill(self, client: Producer | Consumer) -> None:
        """It lives in nothing but its callers."""

    def end_session(self, client: Producer | Consumer) -> None:
        """If it is a member of a group: that waits no more for it. The member does not know."""
        if isinstance(client, MemoryConsumer):
            self.log.expire(client)


class ImpatientClients(KafkaClients):
    """As the product's, but hears of a rebalance sooner, and no fetch holds up what comes next."""

    def _consumer(self, **options: object) -> Consumer:
        if "heartbeat_interval_ms" in options:
            options["heartbeat_interval_ms"] = 100
        consumer: Any = super()._consumer(**options)
        consumer._fetch_max_wait_ms = 50
        return consumer


class KafkaCluster:
    """Real Kafka, with a topic prefix of its own, and RocksDB in a directory of its own."""

    poll_seconds = 0.02
    join_seconds = 0.1

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.clients: Clients = KafkaClients(settings)
        self._directory = directory

    def open_store(self, partition: int) -> Store:
        return RocksStore(self._directory / "first" / str(partition))

    def second_store(self, partition: int) -> Store:
        return RocksStore(self._directory / "second" / str(partition))

    def rollup_store(self, partition: int) -> Store:
        return RocksStore(self._directory / "rollup" / str(partition))

    def lose_stores(self) -> None:
        shutil.rmtree(self._directory / "first")

    def home(self, key: str) -> int:
        return partition_of(key.encode(), self.settings.partitions)

    async def move_group_offsets(self, offset: int) -> None:
        consumer = self.clients.group_consumer(group_of(self.settings), None)
        tps = [
            TopicPartition(self.settings.topic(name), p)
            for name in INPUTS
            for p in range(self.settings.partitions)
        ]
        consumer.assign(tps)
        await consumer.start()
        moved: Mapping[TopicPartition, int] = dict.fromkeys(tps, offset)
        await consumer.commit(moved)
        await stop_quietly(consumer)

    async def remake(self, *topics: str) -> None:
        await remake(self.settings, *topics)

    async def delete_until(self, partition: TopicPartition, offset: int) -> None:
        await delete_until(self.settings, partition, offset)

    async def add_partition(self, topic: str) -> None:
        await add_partition(self.settings, topic)

    async def kill(self, client: Producer | Consumer) -> None:
        """Its tasks end where they are, its sockets close: no flush, no abort, no LeaveGroup."""
        inside: Any = client
        if inside._closed:
            return
        inside._closed = True
        if isinstance(client, AIOKafkaProducer):
            await end(inside._sender.sender_task, seconds=KILL_SECONDS)
            await within(KILL_SECONDS, "connections to close", inside.client.close())
            return
        coordinator, fetcher = inside._coordinator, inside._fetcher
        if isinstance(coordinator, GroupCoordinator):
            # First who starts the others.
            await end(coordinator._coordination_task, seconds=KILL_SECONDS)
            await end(
                coordinator._heartbeat_task, coordinator._commit_refresh_task, seconds=KILL_SECONDS
            )
        elif coordinator is not None:
            await coordinator.close()  # a reader's: it knows no group
        if fetcher is not None:
            await end(fetcher._fetch_task, seconds=KILL_SECONDS)
            await end(*fetcher._pending_tasks, seconds=KILL_SECONDS)
        await within(KILL_SECONDS, "connections to close", inside._client.close())
