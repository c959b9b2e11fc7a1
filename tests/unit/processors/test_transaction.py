"""The engine's promises, one by one, on the in-memory log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from processors.aside import Aside
from processors.join.contribution import Totals
from processors.store import Meta
from processors.wiring import JOINER, _instance
from schemas.topics import STATUSES
from sendtrace.runtime.kafka import Partition, Record
from sendtrace.runtime.quarantine import SAMPLE, TooMuchQuarantine
from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.task import PositionLost

from engine import Output, Traffic, assert_exact, output, produce, running_joiner, until_joined
from fakes.cluster import MemoryCluster
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
    with pytest.raises(PositionLost, match="the next to read is 18"):
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
