"""Inputs that are not the ones that were read, on an in-memory log and on real Kafka.

The process stops, and writes nothing more. Where gaps are accepted it goes on from the log's
beginning, and what nobody will read is counted once, in the transaction that moves the position.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from msgspec.structs import replace

from processors.wiring import JOINER, ROLLUP, Process
from schemas.codec import Headers, decode_positions, decode_rollup, decode_totals, encode
from schemas.lifecycle import Outcome
from schemas.metrics import GAP_RECORDS, GAPS
from schemas.rollup import Part
from schemas.topics import LIFECYCLES, PARTS, ROLLUPS, STATUSES, TOTALS
from schemas.totals import POSITIONS, PositionsRecord, parse_key, positions_key
from sendtrace.runtime import topic_watch
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.task import PositionLost
from sendtrace.runtime.topics import TopicChanged

from engine import Traffic, produce, read_all, running_joiner
from fakes.cluster import Cluster, MemoryCluster

BOTH = pytest.mark.parametrize(
    ("process", "topic"), [(JOINER, STATUSES), (ROLLUP, PARTS)], ids=["joiner", "rollup"]
)
STOP_SECONDS = 15.0


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "LOOK_SECONDS", 0.1)


def run(
    cluster: Cluster, process: Process, *, accept_gap: bool = False
) -> AbstractAsyncContextManager[asyncio.Task[None]]:
    open_store = cluster.open_store if process is JOINER else cluster.rollup_store
    return running_joiner(
        cluster.settings, cluster.clients, open_store, process=process, accept_gap=accept_gap
    )


async def put(cluster: Cluster, topic: str, number: int) -> None:
    """Records that can only be put aside: here it matters which are read, not what they say."""
    records = [(f"key-{n}", b"of no use", []) for n in range(number)]
    await produce(cluster.clients, cluster.settings, records, topic)


async def positions(cluster: Cluster, process: Process, topic: str) -> dict[TopicPartition, int]:
    stage = "join" if process is JOINER else "rollup"
    found = {}
    for raw, value in dict(await read_all(cluster.clients, cluster.settings, TOTALS)).items():
        key = parse_key(raw)
        if key.labels == POSITIONS and key.stage == stage:
            tp = TopicPartition(cluster.settings.topic(topic), key.partition)
            found[tp] = decode_positions(value).next[topic]
    return found


async def figures(cluster: Cluster) -> Counter[tuple[str, str, str]]:
    """What was counted of gaps, by name, input and reason."""
    found: Counter[tuple[str, str, str]] = Counter()
    for raw, value in dict(await read_all(cluster.clients, cluster.settings, TOTALS)).items():
        labels = parse_key(raw).labels
        if isinstance(labels, dict) and "reason" in labels:
            counters = decode_totals(value).counters
            for name in (GAPS.name, GAP_RECORDS.name):
                found[name, labels["input"], labels["reason"]] += counters.get(name, 0)
    return found


async def until_read(cluster: Cluster, process: Process, topic: str, number: int) -> None:
    async with asyncio.timeout(20):
        while sum((await positions(cluster, process, topic)).values()) != number:
            await asyncio.sleep(0.02)


async def put_and_read(cluster: Cluster, process: Process, topic: str, number: int) -> None:
    """So many records, and one life of a process that reads them all."""
    await put(cluster, topic, number)
    async with run(cluster, process):
        await until_read(cluster, process, topic, number)


async def stops(cluster: Cluster, process: Process, *, accept_gap: bool = False) -> None:
    """Raises what it stops with."""
    async with run(cluster, process, accept_gap=accept_gap) as task:
        await asyncio.wait({task}, timeout=STOP_SECONDS)


async def outputs(cluster: Cluster) -> list[list[tuple[bytes, bytes]]]:
    names = (LIFECYCLES, ROLLUPS, TOTALS)
    return [sorted(await read_all(cluster.clients, cluster.settings, name)) for name in names]


@BOTH
async def test_what_was_deleted_unread_is_refused_and_counted_once(
    cluster: Cluster, process: Process, topic: str
) -> None:
    await put_and_read(cluster, process, topic, 30)
    await put(cluster, topic, 30)
    read = await positions(cluster, process, topic)
    for tp, position in read.items():
        await cluster.delete_until(tp, position + 3)
    before = await outputs(cluster)
    with pytest.raises(PositionLost, match=r"3 offsets were deleted unread.*--accept-gap"):
        await stops(cluster, process)
    assert await outputs(cluster) == before
    async with run(cluster, process, accept_gap=True):
        await until_read(cluster, process, topic, 60)
    counted = Counter({(GAPS.name, topic, "deleted"): 3, (GAP_RECORDS.name, topic, "deleted"): 9})
    assert await figures(cluster) == counted
    async with run(cluster, process, accept_gap=True):
        await put(cluster, topic, 30)
        await until_read(cluster, process, topic, 90)
    assert await figures(cluster) == counted


@BOTH
async def test_a_gap_is_committed_though_nothing_comes_after_it(
    cluster: Cluster, process: Process, topic: str
) -> None:
    await put_and_read(cluster, process, topic, 30)
    await put(cluster, topic, 30)
    for tp, position in (await positions(cluster, process, topic)).items():
        await cluster.delete_until(tp, 2 * position)
    async with run(cluster, process, accept_gap=True):
        await until_read(cluster, process, topic, 60)
    assert (await figures(cluster))[GAP_RECORDS.name, topic, "deleted"] == 30
    async with run(cluster, process) as task:  # it is as if it had read them
        await asyncio.sleep(0.5)
        assert not task.done()


@BOTH
async def test_a_topic_made_anew_is_told_by_its_id(
    cluster: Cluster, process: Process, topic: str
) -> None:
    """It is filled past the positions: offsets say nothing."""
    await put_and_read(cluster, process, topic, 30)
    await cluster.remake(topic)
    await put(cluster, topic, 60)
    before = await outputs(cluster)
    with pytest.raises(PositionLost, match=r"made anew.*--accept-gap to go on at offset 0"):
        await stops(cluster, process)
    assert await outputs(cluster) == before
    async with run(cluster, process, accept_gap=True):
        await until_read(cluster, process, topic, 60)
    counted = Counter({(GAPS.name, topic, "remade"): 3, (GAP_RECORDS.name, topic, "remade"): 0})
    assert await figures(cluster) == counted
    async with run(cluster, process):
        await put(cluster, topic, 30)
        await until_read(cluster, process, topic, 90)
    assert await figures(cluster) == counted


async def test_parts_of_a_topic_made_anew_are_later_than_all_before(cluster: Cluster) -> None:
    """Their offsets are lower. The rollups were once frozen, as if each part were a repeat."""

    def told(outcome: Outcome, *, times: int = 1) -> list[tuple[str, bytes, Headers]]:
        part = Part(message_id="m", kind="parts", outcome=outcome, is_open=outcome == "pending")
        return [("s", encode(replace(part, cost_units=n)), []) for n in range(times)]

    async def rolled(outcome: str) -> None:
        async with asyncio.timeout(20):
            while True:
                found = dict(await read_all(cluster.clients, cluster.settings, ROLLUPS))
                if b"s" in found:
                    summary = decode_rollup(found[b"s"]).summary
                    if summary is not None and summary.outcome == outcome:
                        return
                await asyncio.sleep(0.02)

    await produce(cluster.clients, cluster.settings, told("pending", times=5), PARTS)
    async with run(cluster, ROLLUP):
        await until_read(cluster, ROLLUP, PARTS, 5)
    await cluster.remake(PARTS)
    await produce(cluster.clients, cluster.settings, told("rejected"), PARTS)
    async with run(cluster, ROLLUP, accept_gap=True):
        await rolled("rejected")
    async with run(cluster, ROLLUP):  # and it is known when the process comes back
        await produce(cluster.clients, cluster.settings, told("delivered"), PARTS)
        await rolled("delivered")


@BOTH
async def test_of_a_topic_made_anew_what_is_gone_again_is_counted(
    cluster: Cluster, process: Process, topic: str
) -> None:
    await put_and_read(cluster, process, topic, 30)
    await cluster.remake(topic)
    await put(cluster, topic, 30)
    for tp in await positions(cluster, process, topic):
        await cluster.delete_until(tp, 2)
    async with run(cluster, process, accept_gap=True):
        async with asyncio.timeout(20):
            while (await figures(cluster))[GAPS.name, topic, "remade"] < 3:
                await asyncio.sleep(0.02)
        await until_read(cluster, process, topic, 30)
    assert (await figures(cluster))[GAP_RECORDS.name, topic, "remade"] == 6


@BOTH
async def test_a_topic_made_anew_while_it_is_read_stops_the_process(
    cluster: Cluster, process: Process, topic: str
) -> None:
    await put(cluster, topic, 30)
    with pytest.raises((TopicChanged, PositionLost), match=topic):
        async with run(cluster, process) as task:
            await until_read(cluster, process, topic, 30)
            await cluster.remake(topic)
            await put(cluster, topic, 60)
            await asyncio.wait({task}, timeout=STOP_SECONDS)
            before = await outputs(cluster)
    assert await outputs(cluster) == before
    with pytest.raises(PositionLost, match="made anew"):  # whatever it read of the new one
        await stops(cluster, process)


@BOTH
async def test_partitions_added_stop_the_process(
    cluster: Cluster, process: Process, topic: str
) -> None:
    await put(cluster, topic, 30)
    with pytest.raises(TopicChanged, match="has 4 partitions and must have 3"):
        async with run(cluster, process) as task:
            await until_read(cluster, process, topic, 30)
            await cluster.add_partition(topic)
            await asyncio.wait({task}, timeout=STOP_SECONDS)
    for accept_gap in (False, True):  # there is no going on
        with pytest.raises(TopicChanged, match="has 4 partitions and must have 3"):
            await stops(cluster, process, accept_gap=accept_gap)


@pytest.mark.parametrize("changelog", [LIFECYCLES, TOTALS])
async def test_a_changelog_made_anew_is_no_gap(cluster: Cluster, changelog: str) -> None:
    """What was counted would be counted again, or be missing."""
    await put_and_read(cluster, JOINER, STATUSES, 30)
    await cluster.remake(changelog)
    for accept_gap in (False, True):
        with pytest.raises(PositionLost, match=f"{changelog} was made anew.*begin anew"):
            await stops(cluster, JOINER, accept_gap=accept_gap)
    assert await read_all(cluster.clients, cluster.settings, changelog) == []


@pytest.mark.parametrize("changelog", [LIFECYCLES, TOTALS])
async def test_a_changelog_made_anew_is_told_without_state(
    cluster: Cluster, changelog: str
) -> None:
    """The other one still tells it: of totals its positions, of lifecycles that there are any."""
    traffic = Traffic(10)
    await produce(cluster.clients, cluster.settings, traffic.records)
    async with run(cluster, JOINER):
        await until_read(cluster, JOINER, STATUSES, len(traffic.records))
    cluster.lose_stores()
    await cluster.remake(changelog)
    for _ in range(2):  # a second try finds in its state what the first has read
        with pytest.raises(PositionLost, match=f"{changelog} was made anew"):
            await stops(cluster, JOINER)


def memory() -> MemoryCluster:
    return MemoryCluster(Settings(topic_prefix="test.", partitions=1, transaction_interval_ms=1))


async def test_a_commit_that_fails_counts_no_gap_twice() -> None:
    cluster = memory()
    await put_and_read(cluster, JOINER, STATUSES, 3)
    await cluster.delete_until(TopicPartition("test.statuses", 0), 3)
    await put(cluster, STATUSES, 3)
    await cluster.delete_until(TopicPartition("test.statuses", 0), 5)
    cluster.log.failing_sends = [KafkaError("refused")] * 3
    async with run(cluster, JOINER, accept_gap=True):
        await until_read(cluster, JOINER, STATUSES, 6)
    assert not cluster.log.failing_sends
    assert (await figures(cluster))[GAPS.name, STATUSES, "deleted"] == 1
    assert (await figures(cluster))[GAP_RECORDS.name, STATUSES, "deleted"] == 2


async def test_a_log_that_was_cut_is_read_again() -> None:
    """An unclean leader: what it still has was read, or is new. Neither is left out."""
    cluster = memory()
    await put_and_read(cluster, JOINER, STATUSES, 9)
    del cluster.log.entries[TopicPartition("test.statuses", 0)][5:]
    with pytest.raises(PositionLost, match="it ends at 5"):
        await stops(cluster, JOINER)
    async with run(cluster, JOINER, accept_gap=True):
        await until_read(cluster, JOINER, STATUSES, 5)
    assert await figures(cluster) == Counter(
        {(GAPS.name, STATUSES, "cut"): 1, (GAP_RECORDS.name, STATUSES, "cut"): 0}
    )


async def test_positions_without_ids_are_believed_and_given_them() -> None:
    """As an older version saved them: they count as far as the log has them."""
    cluster = memory()
    await put_and_read(cluster, JOINER, STATUSES, 3)
    key = positions_key("join", 0)
    old = {"v": 1, "next": saved_positions(cluster, key).next}
    cluster.log.put("test.totals", 0, key, encode(old))
    cluster.lose_stores()
    await put(cluster, STATUSES, 3)
    async with run(cluster, JOINER):
        await until_read(cluster, JOINER, STATUSES, 6)
    known = saved_positions(cluster, key).topic_ids
    assert known[STATUSES] == "test.statuses 0"
    assert {*known} == {*JOINER.inputs, LIFECYCLES, TOTALS}


def saved_positions(cluster: MemoryCluster, key: bytes) -> PositionsRecord:
    entries = [entry for entry in cluster.log.records("test.totals", 0) if entry.key == key]
    return decode_positions(entries[-1].value or b"")
