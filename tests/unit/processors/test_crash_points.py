"""A joiner that dies at any await point and is started again gives what an undisturbed one does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from processors.stage import Changes
from processors.transaction import TransactionTask
from sendtrace.runtime.settings import Settings

from engine import (
    Output,
    Traffic,
    assert_exact,
    output,
    produce,
    running_joiner,
    until_joined,
    until_read,
)
from fakes.cluster import MemoryCluster

POINTS = range(1, 60)
TRAFFIC = Traffic(6)
# So many polls with nothing else to do: there is no such point any more.
MANY = 200
# An undisturbed run takes some milliseconds: one that waits this long has lost something.
LIMIT_SECONDS = 3.0


class Killed(Exception):
    """Stands for SIGKILL: nothing in the code under test catches it."""


@dataclass
class Killer:
    """Raises at the n-th await point of the joiner's clients; of many polls, at the first ten."""

    at: int = -1
    count: int = 0
    polls: int = 0
    hits: Counter[str] = field(default_factory=Counter)

    def __call__(self, operation: str, name: str) -> None:
        self.polls += operation == "getmany"
        if operation == "getmany" and self.polls > 10:
            return
        self.count += 1
        if self.count == self.at:
            self.hits[operation] += 1
            raise Killed(operation)


async def joined(killer: Killer) -> Output:
    """What comes out when a joiner is killed once, and then started again and left alone."""
    under_test = MemoryCluster(
        Settings(topic_prefix="test.", partitions=2, transaction_interval_ms=1)
    )
    settings, clients = under_test.settings, under_test.clients
    await produce(clients, settings, TRAFFIC.records)
    under_test.log.on_point = killer
    with contextlib.suppress(Killed):
        async with running_joiner(settings, clients, under_test.open_store) as task:
            while not task.done() and killer.count < killer.at and killer.polls < MANY:
                await asyncio.sleep(0)
    under_test.log.on_point = lambda operation, name: None
    async with running_joiner(settings, clients, under_test.open_store):
        await until_joined(clients, settings, len(TRAFFIC.records), LIMIT_SECONDS)
        await until_read(clients, settings, len(TRAFFIC.records), LIMIT_SECONDS)
        return await output(clients, settings)


async def sweep() -> Counter[str]:
    """Kill at each point in turn; answers how often each operation was hit."""
    expected = await joined(Killer())
    hits: Counter[str] = Counter()
    for at in POINTS:
        killer = Killer(at)
        found = await joined(killer)
        assert_exact(found, TRAFFIC)
        assert found.values == expected.values
        assert found.totals == expected.totals
        hits += killer.hits
    return hits


async def test_killed_at_each_await_point() -> None:
    # Every operation of the commit and of the restore was a place to die.
    assert {
        "start", "started", "end_offsets", "getmany", "begin_transaction", "send_batch",
        "send_offsets_to_transaction", "commit_transaction", "transaction_committed",
    } <= set(await sweep())  # fmt: skip


async def _store_before_commit(task: Any, transaction: Any, *arguments: Any) -> Any:
    _, changes, totals = arguments
    task._store.write(changes.values, totals, task._meta({}))
    return await transaction(task, *arguments)


async def _positions_outside(task: Any, transaction: Any, *arguments: Any) -> Any:
    producer, changes, totals = arguments
    ends = await transaction(task, producer, changes, totals[:-1])
    await transaction(task, producer, Changes([], []), totals[-1:])
    return ends


@pytest.mark.parametrize("fault", [_store_before_commit, _positions_outside])
async def test_a_planted_fault_is_seen(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the test."""
    transaction = TransactionTask._transaction

    async def faulty(self: TransactionTask, *arguments: Any) -> Any:
        return await fault(self, transaction, *arguments)

    monkeypatch.setattr(TransactionTask, "_transaction", faulty)
    with pytest.raises((AssertionError, TimeoutError)):
        await sweep()


async def test_no_init_on_takeover_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions kept after a new producer's init: what others committed meanwhile is doubled."""
    restore = TransactionTask._restore

    async def keep_positions(self: TransactionTask) -> None:
        kept = dict(getattr(self, "kept", {}))
        await restore(self)
        self._next.update(kept)
        self.kept = dict.fromkeys(self._next, 0)  # type: ignore[attr-defined]

    monkeypatch.setattr(TransactionTask, "_restore", keep_positions)
    found = await _recovered_twice()
    assert found.events("new") + found.events("repeat") > len(TRAFFIC.records)


async def test_recovered_twice_changes_nothing() -> None:
    assert_exact(await _recovered_twice(), TRAFFIC)


async def _recovered_twice() -> Output:
    """A task whose commit failed after everything was joined recovers, and goes on."""
    under_test = MemoryCluster(
        Settings(topic_prefix="test.", partitions=1, transaction_interval_ms=1)
    )
    settings, clients = under_test.settings, under_test.clients
    half = len(TRAFFIC.records) // 2
    await produce(clients, settings, TRAFFIC.records[:half])
    async with running_joiner(settings, clients, under_test.open_store):
        await until_joined(clients, settings, half, LIMIT_SECONDS)
        # Somebody else's init: the joiner's next commit is fenced, and it recovers.
        await clients.producer(transactional_id="test.joiner-0").start()
        await produce(clients, settings, TRAFFIC.records[half:])
        return await until_joined(clients, settings, len(TRAFFIC.records), LIMIT_SECONDS)
