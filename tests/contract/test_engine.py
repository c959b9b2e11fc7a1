"""The engine, on an in-memory log and on real Kafka: one suite."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced
from broken_topics import delete_until

from processors.store import Entry, Store
from processors.transaction import TransactionTask
from schemas.codec import decode_positions, header
from schemas.topics import BY_NAME, LIFECYCLES, QUARANTINE, STATUSES, TOTALS
from schemas.totals import POSITIONS, parse_key
from sendtrace.runtime.loop import LAG_SECONDS
from sendtrace.runtime.quarantine import KEPT_LIMIT_BYTES
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.task import PositionLost

from engine import (
    Traffic,
    assert_exact,
    output,
    produce,
    read_all,
    read_records,
    running_joiner,
    status_body,
    until_joined,
)
from fakes.cluster import Cluster, KafkaCluster


async def test_joins_each_event_once(cluster: Cluster) -> None:
    traffic = Traffic(30)
    await produce(cluster.clients, cluster.settings, traffic.records)
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        found = await until_joined(cluster.clients, cluster.settings, len(traffic.records))
    assert_exact(found, traffic)


async def test_a_restart_goes_on_where_the_last_commit_ended(cluster: Cluster) -> None:
    traffic = Traffic(30)
    half = len(traffic.records) // 2
    await produce(cluster.clients, cluster.settings, traffic.records[:half])
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        await until_joined(cluster.clients, cluster.settings, half)
    await produce(cluster.clients, cluster.settings, traffic.records[half:])
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        found = await until_joined(cluster.clients, cluster.settings, len(traffic.records))
    assert_exact(found, traffic)


async def test_a_lost_state_directory_is_rebuilt_from_the_topics(cluster: Cluster) -> None:
    traffic = Traffic(30)
    half = len(traffic.records) // 2
    await produce(cluster.clients, cluster.settings, traffic.records[:half])
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        await until_joined(cluster.clients, cluster.settings, half)
    cluster.lose_stores()
    await produce(cluster.clients, cluster.settings, traffic.records[half:])
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        found = await until_joined(cluster.clients, cluster.settings, len(traffic.records))
    assert_exact(found, traffic)


async def test_the_groups_offsets_are_not_the_truth(cluster: Cluster) -> None:
    """Anyone may move or expire them: they serve lag tools only."""
    traffic = Traffic(30)
    await produce(cluster.clients, cluster.settings, traffic.records)
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        await until_joined(cluster.clients, cluster.settings, len(traffic.records))
    await cluster.move_group_offsets(0)
    more = Traffic(31)
    await produce(cluster.clients, cluster.settings, more.records[90:])
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        found = await until_joined(cluster.clients, cluster.settings, len(more.records))
    assert_exact(found, more)


async def test_two_joiners_share_the_partitions_and_one_takes_over(cluster: Cluster) -> None:
    traffic = Traffic(60)
    third = len(traffic.records) // 3
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        await produce(cluster.clients, cluster.settings, traffic.records[:third])
        await until_joined(cluster.clients, cluster.settings, third)
        async with running_joiner(cluster.settings, cluster.clients, cluster.second_store):
            await produce(cluster.clients, cluster.settings, traffic.records[third : 2 * third])
            await until_joined(cluster.clients, cluster.settings, 2 * third)
        await produce(cluster.clients, cluster.settings, traffic.records[2 * third :])
        found = await until_joined(cluster.clients, cluster.settings, len(traffic.records))
    assert_exact(found, traffic)


async def test_a_zombie_with_an_open_transaction_is_fenced(cluster: Cluster) -> None:
    """Its transaction is aborted by the next owner's init, and its producer works no more."""
    settings, clients = cluster.settings, cluster.clients
    zombie = clients.producer(transactional_id=f"{settings.topic_prefix}joiner-0")
    await zombie.start()
    await zombie.begin_transaction()
    batch = zombie.create_batch()
    batch.append(timestamp=None, key=b"zombie", value=b"{}", headers=[])
    await (await zombie.send_batch(batch, settings.topic(LIFECYCLES), partition=0))
    traffic = Traffic(12)
    await produce(clients, settings, traffic.records)
    async with running_joiner(settings, clients, cluster.open_store):
        found = await until_joined(clients, settings, len(traffic.records))
        with pytest.raises((ProducerFenced, InvalidProducerEpoch)):
            await asyncio.wait_for(zombie.commit_transaction(), 60)
    await zombie.stop()
    assert "zombie" not in found.lifecycles
    assert_exact(await output(clients, settings), traffic)


async def test_what_cannot_be_decoded_goes_to_quarantine_once(cluster: Cluster) -> None:
    await produce(cluster.clients, cluster.settings, [("x", b"not json", [])])
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        found = await until_joined(cluster.clients, cluster.settings, 1)
    assert found.events("quarantined") == 1
    assert [
        value for _, value in await read_all(cluster.clients, cluster.settings, QUARANTINE)
    ] == [b"not json"]


async def test_of_what_is_too_large_to_be_written_once_more_quarantine_tells_the_place(
    cluster: Cluster,
) -> None:
    """Another producer filled the limit of the input: with a header of ours Kafka refuses it."""
    settings, clients, home = cluster.settings, cluster.clients, cluster.home("id-000000")
    whole = b"x" * KEPT_LIMIT_BYTES
    poison = b"x" * (int(BY_NAME[STATUSES].config["max.message.bytes"]) - 100)
    misrouted = status_body("id-000000", "delivered").ljust(len(poison))
    elsewhere = (home + 1) % settings.partitions
    producer = clients.producer(max_batch_bytes=2 * len(poison))
    await producer.start()
    for partition, value in ((home, whole), (home, poison), (elsewhere, misrouted)):
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=value, headers=[])
        await (await producer.send_batch(batch, settings.topic(STATUSES), partition=partition))
    await producer.stop()
    async with running_joiner(settings, clients, cluster.open_store):
        found = await until_joined(clients, settings, 3)
    assert found.events("quarantined") == 3
    aside = await read_records(clients, settings, QUARANTINE)
    kept = {header(record.headers, "st_origin"): record.value for record in aside}
    assert kept == {
        f"statuses-{home}-0": whole,
        f"statuses-{home}-1": None,
        f"statuses-{elsewhere}-0": None,
    }


async def test_a_record_in_the_wrong_partition_is_routed_to_the_right_one(
    cluster: Cluster,
) -> None:
    traffic = Traffic(10)
    misplaced = cluster.settings
    producer = cluster.clients.producer()
    await producer.start()
    batch = producer.create_batch()
    for key, body, headers in traffic.records:
        batch.append(timestamp=None, key=key.encode(), value=body, headers=headers)
    await (await producer.send_batch(batch, misplaced.topic(STATUSES), partition=0))
    await producer.stop()
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        rerouted = sum(1 for key, _, _ in traffic.records if cluster.home(key) != 0)
        found = await until_joined(
            cluster.clients, cluster.settings, len(traffic.records) + rerouted
        )
    assert rerouted > 0
    assert found.events("rerouted") == rerouted
    assert_exact(found, traffic)


async def test_positions_are_written_with_the_output(cluster: Cluster) -> None:
    traffic = Traffic(12)
    await produce(cluster.clients, cluster.settings, traffic.records)
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        await until_joined(cluster.clients, cluster.settings, len(traffic.records))
    read = 0
    for key, value in dict(await read_all(cluster.clients, cluster.settings, TOTALS)).items():
        if parse_key(key).labels == POSITIONS:
            read += decode_positions(value).next[STATUSES]
    assert read == len(traffic.records)


class CountedStore:
    """Counts the values that are written into a store; all else is the store's own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.written = 0

    def write(self, values: Iterable[Entry], *others: Any) -> None:
        entries = list(values)
        self.written += len(entries)
        self._store.write(entries, *others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_restart_reads_only_what_it_missed(cluster: Cluster) -> None:
    traffic = Traffic(31)
    await produce(cluster.clients, cluster.settings, traffic.records[:90])
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        await until_joined(cluster.clients, cluster.settings, 90)
    stores: list[CountedStore] = []

    def counted(partition: int) -> Any:
        stores.append(CountedStore(cluster.open_store(partition)))
        return stores[-1]

    await produce(cluster.clients, cluster.settings, traffic.records[90:])
    async with running_joiner(cluster.settings, cluster.clients, counted):
        found = await until_joined(cluster.clients, cluster.settings, len(traffic.records))
    assert_exact(found, traffic)
    assert len(stores) == cluster.settings.partitions
    assert sum(store.written for store in stores) == 1  # the one new message, nothing restored


async def test_nulls_of_another_client_do_not_stop_the_joiner(cluster: Cluster) -> None:
    """A null value goes to quarantine; a null header is as if it were not there."""
    producer = cluster.clients.producer()
    await producer.start()
    batch = producer.create_batch()
    batch.append(timestamp=None, key=b"x", value=None, headers=[])
    for name in ("ce_time", "ce_source", "ce_verified", "content-type", "ce_type"):
        body = status_body("id-000000", "delivered")
        batch.append(timestamp=None, key=b"x", value=body, headers=[(name, None)])  # type: ignore[list-item]
    topic, home = cluster.settings.topic(STATUSES), cluster.home("id-000000")
    await (await producer.send_batch(batch, topic, partition=home))
    await producer.stop()
    async with running_joiner(cluster.settings, cluster.clients, cluster.open_store):
        found = await until_joined(cluster.clients, cluster.settings, 6)
    assert (found.events("quarantined"), len(found.lifecycles)) == (1, 1)


async def test_retention_that_takes_control_records_is_no_loss(
    kafka_settings: Settings, tmp_path: Path
) -> None:
    """Everything was read, and the log ends with control records; then all of it is deleted."""
    cluster = KafkaCluster(kafka_settings, tmp_path / "state")
    settings, clients = cluster.settings, cluster.clients
    home, key = cluster.home("id-000000"), "id-000000"
    producer = clients.producer()
    await producer.start()
    batch = producer.create_batch()
    batch.append(timestamp=None, key=key.encode(), value=status_body(key, "delivered"))
    misplaced = (home + 1) % settings.partitions  # re-routed, in a transaction
    await (await producer.send_batch(batch, settings.topic(STATUSES), partition=misplaced))
    await producer.stop()
    async with running_joiner(settings, clients, cluster.open_store):
        await until_joined(clients, settings, 2)
        await asyncio.sleep(2 * LAG_SECONDS)
    await delete_until(settings, TopicPartition(settings.topic(STATUSES), home), -1)
    async with running_joiner(settings, clients, cluster.open_store) as task:
        await asyncio.sleep(2)
        assert not task.done(), task.exception()


async def test_records_deleted_unread_stop_the_joiner(
    kafka_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs, too: a reset of the position would skip them in silence."""
    cluster = KafkaCluster(kafka_settings, tmp_path / "state")
    settings, clients = cluster.settings, cluster.clients
    key, commit, may_commit = "id-000000", TransactionTask.commit, asyncio.Event()
    may_commit.set()

    async def held(self: TransactionTask) -> None:
        await may_commit.wait()
        await commit(self)

    monkeypatch.setattr(TransactionTask, "commit", held)

    async def put(status: str) -> None:
        await produce(clients, settings, [(key, status_body(key, status), [])])

    with pytest.raises(PositionLost):
        async with running_joiner(settings, clients, cluster.open_store) as task:
            await put("submitted")
            await until_joined(clients, settings, 1)
            may_commit.clear()
            for status in ("accepted", "buffered"):  # fed, its commit hangs; and prefetched
                await put(status)
                await asyncio.sleep(1)
            for status in ("rejected", "failed"):
                await put(status)
            inputs = TopicPartition(settings.topic(STATUSES), cluster.home(key))
            await delete_until(settings, inputs, 5)
            await put("delivered")
            may_commit.set()
            await asyncio.wait({task}, timeout=10)
