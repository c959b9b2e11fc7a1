"""A joiner that dies at any await point, and is started again, gives what an undisturbed one gives."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field

import pytest
from engine import Traffic, assert_exact, output, produce, running_joiner, until_joined
from fakes.cluster import MemoryCluster

from processors.store import Entry
from sendtrace.runtime.settings import Settings


class Killed(Exception):
    """Stands for SIGKILL: nothing in the code under test catches it."""


@dataclass
class Killer:
    """Raises at the n-th await point, counted over the joiner's own operations."""

    at: int = -1
    count: int = 0
    hits: Counter[str] = field(default_factory=Counter)

    def __call__(self, operation: str, name: str) -> None:
        self.count += 1
        if self.count == self.at:
            self.hits[operation] += 1
            raise Killed(operation)


def cluster() -> MemoryCluster:
    return MemoryCluster(Settings(topic_prefix="test.", partitions=2, transaction_interval_ms=1))


async def join_all(under_test: MemoryCluster, traffic: Traffic, killer: Killer) -> None:
    """Run a joiner that may be killed once, then one that is not."""
    await produce(under_test.clients, under_test.settings, traffic.records)
    under_test.log.on_point = killer
    with contextlib.suppress(Killed):
        async with running_joiner(
            under_test.settings, under_test.clients, under_test.open_store
        ) as task:
            while not task.done() and killer.count < killer.at:
                await until_some_progress()
    under_test.log.on_point = lambda operation, name: None
    async with running_joiner(under_test.settings, under_test.clients, under_test.open_store):
        await until_joined(under_test.clients, under_test.settings, len(traffic.records))


async def until_some_progress() -> None:
    import asyncio

    await asyncio.sleep(0)


async def test_killed_at_each_await_point() -> None:
    traffic = Traffic(6)
    undisturbed = cluster()
    await join_all(undisturbed, traffic, Killer())
    expected = await output(undisturbed.clients, undisturbed.settings)
    hits: Counter[str] = Counter()
    for at in range(1, 80):
        killer, under_test = Killer(at), cluster()
        await join_all(under_test, traffic, killer)
        found = await output(under_test.clients, under_test.settings)
        assert_exact(found, traffic)
        assert found.values == expected.values
        assert found.totals == expected.totals
        hits += killer.hits
    # Every operation of the commit and of the restore was a place to die.
    assert {
        "start", "started", "end_offsets", "getmany", "begin_transaction", "send_batch",
        "send_offsets_to_transaction", "commit_transaction", "transaction_committed",
    } <= set(hits)  # fmt: skip


@pytest.mark.parametrize("fault", ["store before commit"])
async def test_the_suite_sees_a_planted_fault(fault: str) -> None:
    """A test of the test: a store that is ahead of Kafka is noticed."""
    import processors.transaction as transaction

    original = transaction.JoinTask._transaction

    async def store_first(self, producer, lifecycles, totals):  # type: ignore[no-untyped-def]
        entries: list[Entry] = [*lifecycles]
        self._store.write(entries, totals, self._meta({}))
        return await original(self, producer, lifecycles, totals)

    transaction.JoinTask._transaction = store_first  # type: ignore[method-assign]
    try:
        with pytest.raises((AssertionError, TimeoutError)):
            for at in range(1, 80):
                under_test = cluster()
                traffic = Traffic(6)
                await join_all_quick(under_test, traffic, Killer(at))
                assert_exact(await output(under_test.clients, under_test.settings), traffic)
    finally:
        transaction.JoinTask._transaction = original  # type: ignore[method-assign]


async def join_all_quick(under_test: MemoryCluster, traffic: Traffic, killer: Killer) -> None:
    import asyncio

    async with asyncio.timeout(3):
        await join_all(under_test, traffic, killer)
