"""Clients that can die: a process's way to Kafka, with a point before and after each of its awaits.

It stands between the code under test and any cluster, in memory or real. ``hit`` is awaited at
every point, and may raise there: ``Killed`` is SIGKILL, any KafkaError is a broker's answer (before
the operation: it was not done; after it: it was done, and the answer is lost). A process that was
killed does nothing more: each further call raises, and its clients say no goodbye.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Mapping
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from sendtrace.runtime.kafka import (
    BATCH_LIMIT_BYTES,
    Batch,
    Clients,
    Consumer,
    Producer,
    TopicReader,
)

EVERY = -1  # of a call that is about all partitions of the process


class Point(NamedTuple):
    """A place to die. Two awaits of one operation in different lines are different places."""

    at: str  # side, file and line that awaits
    operation: str
    partition: int  # of the task

    def __str__(self) -> str:
        return f"{self.at} {self.operation} [{self.partition}]"


class Refused(KafkaError):
    """The broker says no, or nothing: the engine starts over."""


class Killed(BaseException):
    """Stands for SIGKILL: no ``except Exception`` sees it."""


class MortalClients:
    """The clients of one process. ``made`` are the real ones behind: whoever kills closes them."""

    def __init__(self, clients: Clients, prefix: str, hit: Callable[[Point], Awaitable[None]]):
        self._clients = clients
        self._prefix = prefix
        self._hit = hit
        self.is_dead = False
        self.made: list[Producer | Consumer] = []

    def producer(
        self, *, transactional_id: str | None = None, max_batch_bytes: int = BATCH_LIMIT_BYTES
    ) -> Producer:
        real = self._clients.producer(
            transactional_id=transactional_id, max_batch_bytes=max_batch_bytes
        )
        self.made.append(real)
        partition = EVERY if transactional_id is None else int(transactional_id.rsplit("-", 1)[1])
        return _Producer(self, real, self._prefix, partition)  # type: ignore[return-value]

    def group_consumer(self, group: str, instance_id: str | None) -> Consumer:
        real = self._clients.group_consumer(group, instance_id)
        self.made.append(real)
        return _Consumer(self, real, "member", EVERY)  # type: ignore[return-value]

    async def leave_group(self, group: str, instance_id: str) -> None:
        await self._clients.leave_group(group, instance_id)  # by whoever ends a life in order

    def topic_reader(self) -> TopicReader:
        return self._clients.topic_reader()  # it holds nothing that a kill could leave behind

    def reader(self, *, resets: bool = True, committed: bool = True) -> Consumer:
        real = self._clients.reader(resets=resets, committed=committed)
        self.made.append(real)
        return _Consumer(self, real, "reader", EVERY)  # type: ignore[return-value]

    async def reach(self, point: Point) -> None:
        if self.is_dead:
            raise Killed
        try:
            await self._hit(point)
        except Killed:
            self.is_dead = True
            raise
        if self.is_dead:  # another of its coroutines was hit meanwhile
            raise Killed


class _Client:
    """What needs no await is the real client's."""

    def __init__(self, process: MortalClients, real: Any, kind: str, partition: int) -> None:
        self._process = process
        self._real = real
        self._kind = kind
        self._partition = partition

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        assert not iscoroutinefunction(found), f"{name} is awaited, and has no points here"
        return found

    def start(self) -> Coroutine[Any, Any, None]:
        return self._step("start", self._real.start)

    def stop(self) -> Coroutine[Any, Any, None]:
        return _nothing() if self._process.is_dead else self._step("stop", self._real.stop)

    def _step(
        self, operation: str, call: Callable[[], Awaitable[Any]], partition: int | None = None
    ) -> Coroutine[Any, Any, Any]:
        """For the methods of clients, which are no coroutines: their caller is who awaits."""
        caller = sys._getframe(2)  # the only way to be told
        line = f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
        of = self._partition if partition is None else partition
        return self._around(line, f"{self._kind} {operation}", of, call)

    async def _around(
        self, line: str, operation: str, partition: int, call: Callable[[], Awaitable[Any]]
    ) -> Any:
        await self._process.reach(Point(f"before {line}", operation, partition))
        answer = await call()
        await self._process.reach(Point(f"after {line}", operation, partition))
        return answer


async def _nothing() -> None:
    """What a dead process does."""


class _Producer(_Client):
    def __init__(self, process: MortalClients, real: Producer, prefix: str, partition: int) -> None:
        super().__init__(process, real, "producer", partition)
        self._prefix = prefix

    def send_batch(
        self, batch: Batch, topic: str, *, partition: int
    ) -> Coroutine[Any, Any, Awaitable[Any]]:
        name = topic.removeprefix(self._prefix)

        async def send() -> Awaitable[Any]:
            ack = await self._real.send_batch(batch, topic, partition=partition)
            return _Ack(
                lambda: self._around("gather", f"producer ack {name}", self._partition, lambda: ack)
            )

        return self._step(f"send_batch {name}", send)

    def begin_transaction(self) -> Coroutine[Any, Any, None]:
        return self._step("begin_transaction", self._real.begin_transaction)

    def commit_transaction(self) -> Coroutine[Any, Any, None]:
        return self._step("commit_transaction", self._real.commit_transaction)

    def abort_transaction(self) -> Coroutine[Any, Any, None]:
        return self._step("abort_transaction", self._real.abort_transaction)

    def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> Coroutine[Any, Any, None]:
        return self._step(
            "send_offsets", lambda: self._real.send_offsets_to_transaction(offsets, group_id)
        )


class _Ack:
    """The future of a send: nothing happens, and nobody dies, before it is awaited."""

    def __init__(self, wait: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()


class _Consumer(_Client):
    def assign(self, partitions: Collection[TopicPartition]) -> None:
        self._partition = next(iter(partitions)).partition
        self._real.assign(partitions)

    def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Coroutine[Any, Any, Any]:
        return self._step(
            "getmany",
            lambda: self._real.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records),
        )

    def position(self, partition: TopicPartition) -> Coroutine[Any, Any, int]:
        of = partition.partition if self._partition == EVERY else None
        return self._step("position", lambda: self._real.position(partition), of)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> Coroutine[Any, Any, Any]:
        return self._step("end_offsets", lambda: self._real.end_offsets(partitions))

    def beginning_offsets(self, partitions: Collection[TopicPartition]) -> Coroutine[Any, Any, Any]:
        return self._step("beginning_offsets", lambda: self._real.beginning_offsets(partitions))

    def commit(self, offsets: Mapping[TopicPartition, int]) -> Coroutine[Any, Any, None]:
        of = next(iter(offsets)).partition
        return self._step("commit", lambda: self._real.commit(offsets), of)
