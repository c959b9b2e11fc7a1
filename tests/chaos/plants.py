"""Faults of the program itself, planted one at a time: the proof must find each.

`python -m chaos.plants PLANT PROCESS` runs a process of sendtrace with a plant in it, so the
program has no hooks for this. Which faults of the world bring a plant to light stands beside it.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiokafka
from msgspec.structs import replace

from ingest.publish import Publisher
from processors.stage import Changes
from processors.transaction import TransactionTask
from schemas.topics import partition_of
from sendtrace.cli import cli
from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.settings import from_environment
from sinks import postgres
from sinks.postgres import Position, PostgresWarehouse

from chaos.faults import (
    DELAYED,
    STALLED,
    Fault,
    KilledInWeather,
    SuspendedInWeather,
    TakenOver,
)
from chaos.proxy import Weather
from chaos.stack import POSTGRES, broker

_transaction = TransactionTask._transaction
_restore = TransactionTask._restore
_replace_producer = TransactionTask._replace_producer
_forget = TransactionTask._forget_uncommitted
_write = PostgresWarehouse.write
_positions = PostgresWarehouse.positions


# -- 200 before the ack ----------------------------------------------------------------------------


async def _answered_at_once(
    self: Any,
    topic: str,
    key: bytes | None,
    value: bytes,
    headers: Any,
    *,
    partition: int | None = None,
) -> None:
    if partition is None:
        partition = partition_of(value if key is None else key, self._settings.partitions)
    size = len(value)
    self.in_flight.take(size)
    self._append(self._lane(topic, partition), key, value, headers, size)


def early_answer() -> None:
    Publisher.publish = _answered_at_once  # type: ignore[method-assign]


# -- the engine ------------------------------------------------------------------------------------


async def _store_first(self: Any, producer: Any, changes: Changes, totals: Any) -> Any:
    self._store.write(changes.values, totals, self._meta({}), changes.deadlines)
    return await _transaction(self, producer, changes, totals)


def store_before_commit() -> None:
    TransactionTask._transaction = _store_first  # type: ignore[method-assign]


async def _positions_later(self: Any, producer: Any, changes: Changes, totals: Any) -> Any:
    ends = await _transaction(self, producer, changes, totals[:-1])
    return ends | await _transaction(self, producer, Changes([], []), totals[-1:])


def positions_outside() -> None:
    TransactionTask._transaction = _positions_later  # type: ignore[method-assign]


async def _totals_later(self: Any, producer: Any, changes: Changes, totals: Any) -> Any:
    ends = await _transaction(self, producer, changes, totals[-1:])
    return ends | await _transaction(self, producer, Changes([], []), totals[:-1])


def totals_outside() -> None:
    TransactionTask._transaction = _totals_later  # type: ignore[method-assign]


_owners = itertools.count()


async def _own_id(self: Any) -> None:
    """An id of its own: the init of the next owner does not fence it, nor end its transaction."""
    config = self._config
    self._config = replace(config, group=f"{config.group}-{os.getpid()}-{next(_owners)}")
    await _replace_producer(self)
    self._config = config


def no_init() -> None:
    TransactionTask._replace_producer = _own_id  # type: ignore[method-assign]


def _forget_but_positions(self: Any) -> None:
    self.kept = dict(self._next)
    _forget(self)


async def _restore_but_positions(self: Any) -> None:
    await _restore(self)
    self._next.update(self.kept)


def zombie_goes_on() -> None:
    TransactionTask._forget_uncommitted = _forget_but_positions  # type: ignore[method-assign]
    TransactionTask._restore = _restore_but_positions  # type: ignore[method-assign]


# -- the loader ------------------------------------------------------------------------------------


class _Group:
    """The offsets of a consumer group, as a loader would keep them that trusts in auto-commit."""

    NAME = "chaos-loader"

    def __init__(self) -> None:
        self._bootstrap = from_environment(os.environ).kafka_bootstrap
        self._consumer: aiokafka.AIOKafkaConsumer | None = None

    async def consumer(self) -> aiokafka.AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = aiokafka.AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap, group_id=self.NAME, enable_auto_commit=False
            )
            await self._consumer.start()
        return self._consumer


def loader_from_group() -> None:
    group = _Group()

    async def positions(self: Any) -> dict[Partition, Position]:
        found = {}
        consumer = await group.consumer()
        for partition, position in (await _positions(self)).items():
            at = await consumer.committed(partition)
            found[partition] = Position(position.next if at is None else at, position.topic_epoch)
        return found

    async def write(self: Any, changes: Any, expected: Any, new: Any) -> None:
        consumer = await group.consumer()
        consumer.assign(list(new))
        await consumer.commit(dict(new))
        await _write(self, changes, expected, new)

    async def move(connection: Any, expected: Any, new: Any) -> None:
        """Nobody compares."""

    PostgresWarehouse.positions = positions  # type: ignore[method-assign]
    PostgresWarehouse.write = write  # type: ignore[method-assign]
    postgres._move = move


# -- all of them -----------------------------------------------------------------------------------

KAFKA = broker(1)
SLOW = Weather(delay_seconds=0.2)


@dataclass(frozen=True)
class Plant:
    """``plant`` changes the program; ``faults`` show it in the process ``part``, by one of
    ``shown_by`` (`Outcome.evidence`): what is unclean for another reason is not the plant."""

    part: str
    plant: Callable[[], None]
    faults: tuple[Fault, ...]
    shown_by: frozenset[str]
    # A zombie must come back before Kafka ends its transaction, or after the engine gave it up.
    transaction_timeout_ms: int = 10_000


_COUNTS = frozenset({"skipped", "recounted"})
_MID_COMMIT = (KilledInWeather("joiner", KAFKA, DELAYED, 2.0),) * 8
PLANTS: Mapping[str, Plant] = {
    "early-answer": Plant(
        "edge",
        early_answer,
        (KilledInWeather("edge", KAFKA, STALLED, 2.0),) * 3,
        frozenset({"lost"}),
    ),
    "store-before-commit": Plant(
        "joiner", store_before_commit, _MID_COMMIT, frozenset({"lifecycles"})
    ),
    "positions-outside": Plant("joiner", positions_outside, _MID_COMMIT, _COUNTS),
    "totals-outside": Plant("joiner", totals_outside, _MID_COMMIT, _COUNTS),
    "no-init": Plant("joiner", no_init, (TakenOver("joiner", KAFKA),) * 4, _COUNTS, 60_000),
    "zombie-goes-on": Plant(
        "joiner", zombie_goes_on, (SuspendedInWeather("joiner", KAFKA, 8.0),) * 4, _COUNTS, 5_000
    ),
    "loader-from-group": Plant(
        "loader",
        loader_from_group,
        (KilledInWeather("loader", POSTGRES, SLOW, 2.0),) * 8,
        frozenset({"warehouse"}),
    ),
}


if __name__ == "__main__":
    PLANTS[sys.argv.pop(1)].plant()
    cli()
