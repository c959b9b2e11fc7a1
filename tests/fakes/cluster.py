"""A cluster under test, in memory or real, with what tests need beside the port."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from aiokafka import TopicPartition

from processors.joining import INPUTS
from processors.store import RocksStore, Store
from processors.wiring import group_of
from schemas.topics import partition_of
from sendtrace.runtime.kafka import Clients, KafkaClients, stop_quietly
from sendtrace.runtime.settings import Settings

from .log import MemoryLog
from .store import MemoryStore


class Cluster(Protocol):
    settings: Settings
    clients: Clients

    def open_store(self, partition: int) -> Store: ...
    def second_store(self, partition: int) -> Store: ...
    def rollup_store(self, partition: int) -> Store: ...
    def lose_stores(self) -> None: ...
    def home(self, key: str) -> int: ...
    async def move_group_offsets(self, offset: int) -> None: ...


class MemoryCluster:
    """Stores outlive their tasks, as disks do."""

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


class KafkaCluster:
    """Real Kafka, with a topic prefix of its own, and RocksDB in a directory of its own."""

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
