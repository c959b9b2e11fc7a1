"""Clients and a warehouse that lose, double or alter what passes: planted faults for `verify`.

They stand between the code under test and any cluster or database. A fault strikes one key of one
topic (all its records: of a compacted topic an earlier one that is lost is made good by the next),
or one row of the warehouse. What struck is remembered, so that a test can ask whether it was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka.structs import RecordMetadata

from sendtrace.runtime.kafka import (
    BATCH_LIMIT_BYTES,
    Batch,
    Clients,
    Consumer,
    Partition,
    Producer,
    TopicReader,
)
from sinks.changes import Changes
from sinks.postgres import Warehouse
from sinks.rows import MESSAGES

Kind = Literal["drop", "double", "alter"]
Headers = Sequence[tuple[str, bytes]]


@dataclass
class Fault:
    """Strikes the ``nth`` key that ``alter`` would change, in ``topic`` (without prefix)."""

    topic: str
    kind: Kind
    alter: Callable[[bytes], bytes]
    nth: int = 3
    once: bool = False  # only the first record of its key: of what is no compacted topic
    key: bytes | None = None
    ce_id: str = ""
    struck: int = 0
    _seen: set[bytes] = field(default_factory=set)

    def strikes(self, key: bytes, value: bytes, headers: Headers, taken: set[bytes]) -> bool:
        if self.key is None and key not in taken and self.alter(value) != value:
            self._seen.add(key)
            if len(self._seen) == self.nth:
                self.key = key
                self.ce_id = dict(headers).get("ce_id", b"").decode()
                taken.add(key)
        if key != self.key or (self.once and self.struck):
            return False
        self.struck += 1
        return True


class TamperingClients:
    """At the port of sendtrace.runtime.kafka.Clients. Readers are left alone."""

    def __init__(self, clients: Clients, prefix: str, faults: Sequence[Fault]) -> None:
        self._clients = clients
        self._prefix = prefix
        self._faults = {fault.topic: fault for fault in faults}
        self._taken: set[bytes] = set()  # one fault a key, or they would hide each other

    def producer(
        self, *, transactional_id: str | None = None, max_batch_bytes: int = BATCH_LIMIT_BYTES
    ) -> Producer:
        made = self._clients.producer(
            transactional_id=transactional_id, max_batch_bytes=max_batch_bytes
        )
        return _Producer(made, self)

    def group_consumer(self, group: str, instance_id: str | None) -> Consumer:
        return self._clients.group_consumer(group, instance_id)

    def reader(self, *, resets: bool = True, committed: bool = True) -> Consumer:
        return self._clients.reader(resets=resets, committed=committed)

    def topic_reader(self) -> TopicReader:
        return self._clients.topic_reader()

    async def leave_group(self, group: str, instance_id: str) -> None:
        await self._clients.leave_group(group, instance_id)

    def tampered(self, topic: str, records: list[_Record]) -> list[_Record]:
        fault = self._faults.get(topic.removeprefix(self._prefix))
        if fault is None:
            return records
        passed: list[_Record] = []
        for record in records:
            key, value, headers = record
            if value is None or not fault.strikes(key or b"", value, headers, self._taken):
                passed.append(record)
            elif fault.kind == "double":
                passed += [record, record]
            elif fault.kind == "alter":
                passed.append((key, fault.alter(value), headers))
        return passed


_Record = tuple[bytes | None, bytes | None, Headers]


class _Batch:
    """What is appended, and the real batch that shows whether it fits."""

    def __init__(self, real: Batch) -> None:
        self.real = real
        self.records: list[_Record] = []

    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
    ) -> object | None:
        added = self.real.append(timestamp=timestamp, key=key, value=value, headers=headers)
        if added is not None:
            self.records.append((key, value, headers))
        return added

    def record_count(self) -> int:
        return len(self.records)

    def size(self) -> int:
        return self.real.size()


class _Producer:
    """Passes everything on; a batch that a fault strikes is made anew."""

    def __init__(self, real: Producer, clients: TamperingClients) -> None:
        self._real = real
        self._clients = clients

    def create_batch(self) -> _Batch:
        return _Batch(self._real.create_batch())

    async def send_batch(self, batch: _Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        tampered = self._clients.tampered(topic, batch.records)
        if tampered is batch.records or tampered == batch.records:
            return await self._real.send_batch(batch.real, topic, partition=partition)
        if not tampered:  # it lies: nothing went, and it is acknowledged
            acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            acknowledged.set_result(RecordMetadata(topic, partition, None, 0, 0, 1, 0))
            return acknowledged
        made = self._real.create_batch()
        for key, value, headers in tampered:
            made.append(timestamp=None, key=key, value=value, headers=headers)
        return await self._real.send_batch(made, topic, partition=partition)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class TamperingWarehouse:
    """At the port of sinks.postgres.Warehouse: one message's row is lost or altered."""

    def __init__(self, warehouse: Warehouse, kind: Kind, nth: int = 9) -> None:
        self._warehouse = warehouse
        self._kind = kind
        self._nth = nth
        self._seen: set[object] = set()
        self.key: object = None

    async def write(
        self, changes: Changes, expected: Mapping[Partition, int], new: Mapping[Partition, int]
    ) -> None:
        for row in changes.messages:
            self._seen.add(row[0])
            if self.key is None and len(self._seen) == self._nth:
                self.key = row[0]
        rows = [row for row in changes.messages if row[0] != self.key]
        if self._kind == "alter":
            at = MESSAGES.names.index("client_ref")
            struck = [row for row in changes.messages if row[0] == self.key]
            rows += [(*row[:at], "not what was sent", *row[at + 1 :]) for row in struck]
            await self._warehouse.write(changes._replace(messages=rows), expected, new)
            return
        events = [row for row in changes.events if row[0] != self.key]
        await self._warehouse.write(changes._replace(messages=rows, events=events), expected, new)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warehouse, name)
