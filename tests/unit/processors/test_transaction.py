"""The engine's promises, one by one, on the in-memory log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from msgspec.structs import replace

from processors import wiring
from processors.aside import Aside
from processors.join.contribution import Totals
from processors.store import Meta
from processors.transaction import TransactionTask
from processors.wiring import JOINER, _instance, engine_config, stage_config
from schemas.topics import STATUSES
from sendtrace.runtime.kafka import Partition, Record
from sendtrace.runtime.quarantine import SAMPLE, TooMuchQuarantine
from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.task import PositionLost, StartOver
from sendtrace.runtime.topics import DependencyAway

from engine import Output, Traffic, assert_exact, output, produce, running_joiner, until_joined
from fakes.cluster import MemoryCluster
from fakes.log import MemoryLog
from fakes.store import MemoryStore

TRAFFIC = Traffic(6)
HALF = len(TRAFFIC.records) // 2


def one_partition() -> MemoryCluster:
    return MemoryCluster(Settings(topic_prefix="test.", partitions=1, transaction_interval_ms=1))


async def joined(cluster: MemoryCluster, records: int, cluster_id: str = "test") -> Output:
    async with running_joiner(
        cluster.settings, cluster.clients, cluster.open_store, cluster=cluster_id
    ):
        return await until_joined(cluster.clients, cluster.settings, records, 3)


async def test_a_failed_send_is_never_committed() -> None:
    """aiokafka commits a transaction although a send in it failed: only the future tells."""
    cluster = one_partition()
    await produce(cluster.clients, cluster.settings, TRAFFIC.records)
    cluster.log.failing_sends = [MessageSizeTooLargeError()]
    await joined(cluster, len(TRAFFIC.records))
    assert_exact(await output(cluster.clients, cluster.settings), TRAFFIC)


async def test_a_position_beyond_the_end_stops_the_task() -> None:
    cluster = one_partition()
    await produce(cluster.clients, cluster.settings, TRAFFIC.records)
    await joined(cluster, len(TRAFFIC.records))
    cluster.log.entries[Partition("test.statuses", 0)].clear()  # the topic was made anew
    with pytest.raises(PositionLost, match="the next offset to read is 18"):
        await joined(cluster, len(TRAFFIC.records) + 1)


def _other_cluster(store: MemoryStore) -> None:
    store.meta.cluster = "another"


def _too_old(store: MemoryStore) -> None:
    store.meta.caught_up_at_ms -= 13 * 3_600_000


def _beyond_the_end(store: MemoryStore) -> None:
    store.meta.next["lifecycles"] = 10_000


@pytest.mark.parametrize("outdate", [_other_cluster, _too_old, _beyond_the_end])
async def test_an_outdated_store_is_dropped(outdate: Callable[[MemoryStore], None]) -> None:
    """What is in it and not in the topics any more must not be believed."""
    cluster = one_partition()
    await produce(cluster.clients, cluster.settings, TRAFFIC.records[:HALF])
    await joined(cluster, HALF)
    store = cluster.open_store(0)
    assert isinstance(store, MemoryStore)
    store.values = dict.fromkeys(store.values, b"not what Kafka has")
    outdate(store)
    await produce(cluster.clients, cluster.settings, TRAFFIC.records[HALF:])
    assert_exact(await joined(cluster, len(TRAFFIC.records)), TRAFFIC)


async def test_a_store_that_follows_is_believed() -> None:
    cluster = one_partition()
    await produce(cluster.clients, cluster.settings, TRAFFIC.records[:HALF])
    await joined(cluster, HALF)
    store = cluster.open_store(0)
    kept = dict(store.values)  # type: ignore[attr-defined]
    await joined(cluster, HALF)
    assert kept
    assert store.values == kept  # type: ignore[attr-defined]
    assert store.meta != Meta()


class _Silent(MemoryLog):
    """A group that assigns nothing."""

    def group_consumer(self, group: str, instance_id: str | None) -> Any:
        consumer = super().group_consumer(group, instance_id)
        consumer.start = asyncio.Event().wait  # type: ignore[assignment]
        return consumer


async def test_a_member_that_is_never_assigned_anything_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once it has waited longer than any rebalance takes, so that it is started again."""
    monkeypatch.setattr(wiring, "JOIN_TIMEOUT_SECONDS", 0.05)
    cluster = one_partition()
    async with asyncio.timeout(5):
        with pytest.raises(DependencyAway, match=r"has assigned nothing for 0\.05 s"):
            async with running_joiner(cluster.settings, _Silent(1), cluster.open_store):
                pass


class _Slow(MemoryLog):
    """A broker whose answer to InitProducerId comes when it is told to."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    def producer(self, **options: Any) -> Any:
        producer = super().producer(**options)
        init = producer.start

        async def start() -> None:
            await init()
            self.asked.set()
            await self.answer.wait()

        producer.start = start  # type: ignore[method-assign]
        return producer


def lone_task(log: MemoryLog, **config: Any) -> TransactionTask:
    """The joiner's, without a loop."""
    cluster = one_partition()
    store = cluster.open_store(0)
    stage = JOINER.make_stage(0, store, stage_config(cluster.settings))
    engine = replace(engine_config(cluster.settings, "test", JOINER, {}), **config)
    return TransactionTask(0, stage, store, log, engine, lambda: 0)


async def test_a_commit_that_is_never_answered_is_given_up() -> None:
    """aiokafka would wait as long as the broker is away (docs/aiokafka.md 9)."""
    log = MemoryLog(1)
    task = lone_task(log, commit_timeout_seconds=0.05)
    await task.recover()

    async def unanswered() -> None:
        await asyncio.sleep(3_600)

    task._producer.commit_transaction = unanswered  # type: ignore[method-assign, union-attr]
    async with asyncio.timeout(5):
        with pytest.raises(StartOver, match="TimeoutError"):
            await task.commit()


async def test_a_recovery_given_up_as_the_broker_answers() -> None:
    """asyncio.wait_for would lose the cancellation, and a rebalance wait for the whole restore."""
    log = _Slow()
    task = lone_task(log)
    recovery = asyncio.create_task(task.recover())
    await log.asked.wait()
    log.answer.set()
    await asyncio.sleep(0)  # the answer is there; who waits for it is not back yet
    recovery.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recovery


def record(headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    return Record(
        topic="test.statuses", partition=0, offset=5, timestamp=0, timestamp_type=1, key=b"k",
        value=b"v", checksum=None, serialized_key_size=1, serialized_value_size=1, headers=headers,
    )  # fmt: skip


def test_a_record_is_routed_once() -> None:
    aside = Aside(0, Totals(100), 0.5)
    aside.reroute(STATUSES, record(), "k", 3)
    [first] = aside.records
    assert (first.topic, first.partition, first.value) == (STATUSES, 3, b"v")
    assert dict(first.headers) == {"st_rerouted": b"statuses-0-5"}
    aside.reroute(STATUSES, record(tuple(first.headers)), "k", 3)
    assert aside.records[1].topic == "quarantine"
    assert dict(aside.records[1].headers)["reason"] == b"rerouted twice"


def test_a_flood_of_unusable_records_stops_the_process() -> None:
    aside = Aside(0, Totals(100), 0.5)
    aside.seen(SAMPLE - 1)
    for _ in range(SAMPLE - 1):
        aside.quarantine(STATUSES, record(), "not JSON")
    aside.seen(1)
    with pytest.raises(TooMuchQuarantine, match="not JSON"):
        aside.quarantine(STATUSES, record(), "not JSON")


def test_half_of_the_records_may_be_unusable() -> None:
    aside = Aside(0, Totals(100), 0.5)
    aside.seen(2 * SAMPLE)
    for _ in range(SAMPLE):
        aside.quarantine(STATUSES, record(), "not JSON")


def test_two_joiners_do_not_share_a_state_directory(tmp_path: Path) -> None:
    with _instance(tmp_path, JOINER) as first:
        with pytest.raises(SettingsError, match="SENDTRACE_DATA_DIR"), _instance(tmp_path, JOINER):
            pass
        assert first
    with _instance(tmp_path, JOINER) as again:
        assert again == first  # the same static member after a restart
    (tmp_path / "instance-id").write_text("")
    with _instance(tmp_path, JOINER) as new:  # all who crashed as they wrote theirs would share it
        assert new
