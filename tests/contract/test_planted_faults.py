"""Tests of the tests: each fault that an engine or a join may have turns its suite red."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from processors.join import derive, facts
from processors.stage import Changes
from processors.transaction import TransactionTask
from schemas.events import Fact

import crash
from crash import Blow, Sweep, freeze, kill, points_of, refuse
from crash_stages import JOIN, impatient, lose_send, memory
from strategies import POLICIES, receipt, sends, twins
from unit.processors.join.test_derive import test_codes_and_categories as codes_and_categories
from unit.processors.join.test_properties import (
    test_no_order_of_what_was_told_differently_is_better as no_order_is_better,
)

__all__ = ["impatient"]  # a fixture, for every test here


class _Deaf:
    """A producer of whose sends nobody hears that they failed."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        ack = await self._producer.send_batch(batch, topic, partition=partition)

        async def heard() -> Any:
            try:
                return await ack
            except KafkaError:
                return RecordMetadata(topic, partition, None, 0, 0, 1, 0)

        return heard()


transaction = TransactionTask._transaction
replace_producer = TransactionTask._replace_producer
restore = TransactionTask._restore
forget = TransactionTask._forget_uncommitted
_owners = itertools.count()


async def store_before_commit(self: Any, producer: Any, changes: Changes, totals: Any) -> Any:
    self._store.write(changes.values, totals, self._meta({}), changes.deadlines)
    return await transaction(self, producer, changes, totals)


async def positions_outside(self: Any, producer: Any, changes: Changes, totals: Any) -> Any:
    ends = await transaction(self, producer, changes, totals[:-1])
    await transaction(self, producer, Changes([], []), totals[-1:])
    return ends


async def no_init_on_takeover(self: Any) -> None:
    """An id of its own: the init of the next owner does not fence it, nor end its transaction."""
    config = self._config
    self._config = replace(config, group=f"{config.group}-{next(_owners)}")
    await replace_producer(self)
    self._config = config


def remember_positions(self: Any) -> None:
    self.kept = dict(self._next)
    forget(self)


async def positions_kept(self: Any) -> None:
    await restore(self)
    self._next.update(self.kept)


async def lost_send_future(self: Any, producer: Any, changes: Changes, totals: Any) -> Any:
    return await transaction(self, _Deaf(producer), changes, totals)


@pytest.mark.parametrize(
    ("faults", "operation", "blow"),
    [
        ({"_transaction": store_before_commit}, "commit_transaction", kill),
        ({"_transaction": positions_outside}, "commit_transaction", kill),
        ({"_replace_producer": no_init_on_takeover}, "commit_transaction", freeze),
        (
            {"_forget_uncommitted": remember_positions, "_restore": positions_kept},
            "commit_transaction",
            refuse,
        ),
        ({"_transaction": lost_send_future}, "send_batch lifecycles", lose_send),
    ],
    ids=["store before commit", "positions outside", "no init", "positions kept", "lost future"],
)
async def test_an_engine_with_a_fault_is_seen(
    faults: dict[str, Any], operation: str, blow: Blow, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {p for p in await points_of(await memory(), JOIN) if operation in p.operation}

    async def sweep() -> None:
        await Sweep(memory, JOIN, random.Random(0), blow).run(points, 1, crashes=2, lanes=1)

    await sweep()  # it is the fault, and nothing else
    monkeypatch.setattr(crash, "LIMIT_SECONDS", 3.0)
    for name, fault in faults.items():
        monkeypatch.setattr(TransactionTask, name, fault)
    with pytest.raises((AssertionError, TimeoutError)):
        await sweep()


@pytest.mark.parametrize("arrived", ["first", "last"])
def test_a_merge_by_arrival_is_seen(arrived: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_arrival(one: Fact, other: Fact) -> Fact:
        return one if arrived == "first" else other

    monkeypatch.setattr(facts, "merge_facts", by_arrival)
    # The property as it is, but a failure need not be made small.
    search = settings(phases=[Phase.generate], database=None)
    inputs = given(st.lists(twins | sends, min_size=2, max_size=5), POLICIES)
    with pytest.raises(AssertionError):
        search(inputs(no_order_is_better.hypothesis.inner_test))()


def test_expired_counted_as_failure_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    code_of = derive.code_of
    monkeypatch.setattr(
        derive, "code_of", lambda outcome, *told: code_of(
            "failed" if outcome == "expired" else outcome, *told
        )
    )  # fmt: skip
    with pytest.raises(AssertionError):
        codes_and_categories([receipt("expired")], None, "no_confirmation", ())
