"""Quarantined records are put through once, however often a replay is killed and run again."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest
from aiokafka.errors import KafkaError
from click.testing import CliRunner

from schemas.codec import TYPE_QUARANTINE, TYPE_STATUS, Headers, cloud_event, header
from schemas.topics import QUARANTINE, STATUSES, partition_of
from sendtrace.cli import cli
from sendtrace.replay import run
from sendtrace.replay.report import as_json, as_text
from sendtrace.replay.run import Overtaken, Report, replay
from sendtrace.runtime.kafka import Clients, KafkaClients, Record, partitions_of, stop_quietly
from sendtrace.runtime.reading import open_reader, read_until
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import DependencyAway

from engine import running_joiner, status_body, until_joined
from fakes.cluster import Cluster, MemoryCluster

CAME_US = time.time_ns() // 1000 - 3_600_000_000


def kept(number: int, reason: str = "not JSON") -> tuple[str, bytes, Headers]:
    """A status that an edge of yesterday did not understand."""
    body = status_body(f"id-{number:04}", "delivered")
    headers = cloud_event(
        ce_type=TYPE_QUARANTINE,
        ce_id=f"ce-{number}",
        source="/webhooks/status",
        at_us=CAME_US + number,
        content_type="application/json",
    )
    return "", body, [*headers, ("reason", reason.encode())]


async def put_aside(
    clients: Clients, settings: Settings, *records: tuple[str, bytes, Headers]
) -> None:
    """As the edge does: without a key, spread by their bytes."""
    producer = clients.producer()
    await producer.start()
    for _, body, headers in records:
        batch = producer.create_batch()
        assert batch.append(timestamp=None, key=None, value=body, headers=headers) is not None
        p = partition_of(body, settings.partitions)
        await (await producer.send_batch(batch, settings.topic(QUARANTINE), partition=p))
    await producer.stop()


async def records_of(
    clients: Clients, settings: Settings, name: str, expected: int = 0
) -> list[Record]:
    """All of a topic. A commit's answer comes some milliseconds before its records
    (docs/aiokafka.md 12): so many are waited for."""
    async with asyncio.timeout(60):
        while len(found := await _records_now(clients, settings, name)) < expected:
            await asyncio.sleep(0.02)
    return found


async def _records_now(clients: Clients, settings: Settings, name: str) -> list[Record]:
    partitions = partitions_of(settings, name)
    async with open_reader(clients, partitions) as reader:
        ends = await reader.end_offsets(partitions)
        return [r async for _, records in read_until(reader, ends) for r in records]


async def once_more(cluster: Cluster, *reasons: str, dry_run: bool = False) -> Report:
    return await replay(
        cluster.clients, cluster.settings, reasons, dry_run=dry_run, now_us=lambda: CAME_US
    )


def ids(records: list[Record]) -> Counter[str | None]:
    return Counter(header(record.headers, "ce_id") for record in records)


async def test_unchanged_bytes_and_times_under_the_edges_key(cluster: Cluster) -> None:
    clients, settings = cluster.clients, cluster.settings
    key, body, headers = kept(1)
    await put_aside(clients, settings, (key, body, headers))
    report = await once_more(cluster)
    assert dict(report.topics) == {STATUSES: 1}
    [found] = await records_of(clients, settings, STATUSES, 1)
    assert (found.key, found.value) == (b"id-0001", body)
    assert found.partition == partition_of(b"id-0001", settings.partitions)
    lay_in = partition_of(body, settings.partitions)
    assert dict(found.headers) == {
        **{name: content for name, content in headers if name != "reason"},
        "ce_type": TYPE_STATUS.encode(),
        "st_replayed": f"quarantine-{lay_in}-0".encode(),
    }


async def test_once_and_what_came_since(cluster: Cluster) -> None:
    clients, settings = cluster.clients, cluster.settings
    await put_aside(clients, settings, *(kept(n) for n in range(20)))
    assert (await once_more(cluster)).topics[STATUSES] == 20
    again = await once_more(cluster)
    assert (again.topics.total(), again.reasons["not JSON"].earlier) == (0, 20)
    await put_aside(clients, settings, kept(20))
    assert (await once_more(cluster)).topics[STATUSES] == 1
    assert ids(await records_of(clients, settings, STATUSES, 21)) == Counter(
        f"ce-{n}" for n in range(21)
    )


async def test_what_stays_is_counted_by_reason_and_a_dry_run_does_nothing(cluster: Cluster) -> None:
    clients, settings = cluster.clients, cluster.settings
    broken = ("", b"{", kept(0)[2])
    await put_aside(clients, settings, kept(1), kept(2, "stale"), broken)
    report = await once_more(cluster, dry_run=True)
    assert (report.looked_at, dict(report.topics)) == (3, {STATUSES: 1})
    assert await records_of(clients, settings, STATUSES) == []
    told = json.loads(as_json(report))
    assert told["reasons"]["stale"]["left"] == {"kept on purpose: name its reason to replay it": 1}
    assert told["reasons"]["not JSON"] == {
        "replayed": 1, "earlier": 0, "left": {"still not understood": 1},
    }  # fmt: skip
    assert as_text(report).splitlines()[2:5] == [
        "reason    replayed  earlier  left  why left",
        "not JSON         1        0     1  still not understood",
        "stale            0        0     1  kept on purpose: name its reason to replay it",
    ]
    assert (await once_more(cluster, "stale")).topics[STATUSES] == 1
    assert ids(await records_of(clients, settings, STATUSES, 1)) == {"ce-2": 1}


async def test_a_run_that_is_overtaken_stops_and_doubles_nothing(cluster: Cluster) -> None:
    clients, settings = cluster.clients, cluster.settings
    await put_aside(clients, settings, *(kept(n) for n in range(5)))
    first = await run._started(clients, settings)
    pen = run._Pen(first, settings, lambda: CAME_US)
    [record, *_] = await records_of(clients, settings, QUARANTINE)
    told = run.judge(record.value, record.headers, "quarantine-0-0", 0)
    assert isinstance(told, run.Again)
    await once_more(cluster)
    await pen.write(record, told)
    with pytest.raises(Overtaken):
        await pen.flush()
    await stop_quietly(first)
    assert ids(await records_of(clients, settings, STATUSES, 5)) == Counter(
        f"ce-{n}" for n in range(5)
    )


async def test_a_mark_that_an_open_transaction_hides_is_waited_for(cluster: Cluster) -> None:
    """Of a joiner that stands still as it puts something aside: what was committed behind its
    record is not to be read yet."""
    clients, settings = cluster.clients, cluster.settings
    await put_aside(clients, settings, kept(1))
    lies_in = partition_of(kept(1)[1], settings.partitions)
    joiner = clients.producer(transactional_id=settings.topic("joiner"))
    await joiner.start()
    await joiner.begin_transaction()
    batch = joiner.create_batch()
    assert batch.append(timestamp=None, key=None, value=b"{", headers=[]) is not None
    await (await joiner.send_batch(batch, settings.topic(QUARANTINE), partition=lies_in))
    # If the first does not wait, it puts through what came before the joiner's, and marks it.
    runs = []
    for _ in range(2):
        runs.append(asyncio.create_task(once_more(cluster)))
        await asyncio.wait(runs[-1:], timeout=0.2 if isinstance(cluster, MemoryCluster) else 4.0)
    await joiner.commit_transaction()
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    await stop_quietly(joiner)
    await once_more(cluster)
    assert ids(await records_of(clients, settings, STATUSES, 1)) == {"ce-1": 1}, outcomes


async def test_a_send_that_fails_is_not_marked_as_put_through() -> None:
    cluster = MemoryCluster(Settings(topic_prefix="test.", partitions=3))
    await put_aside(cluster.clients, cluster.settings, kept(1))
    cluster.log.failing_sends = [KafkaError()]
    with pytest.raises(DependencyAway, match="run it again"):
        await once_more(cluster)
    assert (await once_more(cluster)).topics[STATUSES] == 1
    assert ids(await records_of(cluster.clients, cluster.settings, STATUSES)) == {"ce-1": 1}


class Killed(BaseException):
    """The process is gone."""


async def test_killed_anywhere_and_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every await of its Kafka clients, in transactions of two records."""
    monkeypatch.setattr(run, "TRANSACTION_RECORDS", 2)
    kills = 0
    for at in range(1_000):
        cluster = MemoryCluster(Settings(topic_prefix="test.", partitions=3))
        await put_aside(cluster.clients, cluster.settings, *(kept(n) for n in range(7)))
        points = iter(range(at + 1))

        def die(operation: str, name: str, points: object = points) -> None:
            if next(points, None) is None:  # type: ignore[call-overload]
                raise Killed

        cluster.log.on_point = die
        try:
            await once_more(cluster)
        except Killed:
            kills += 1
        else:
            break
        finally:
            cluster.log.on_point = lambda operation, name: None
        await once_more(cluster)
        found = await records_of(cluster.clients, cluster.settings, STATUSES)
        assert ids(found) == Counter(f"ce-{n}" for n in range(7)), f"killed at {at}"
    assert kills > 20


async def test_the_joiner_takes_what_the_command_puts_through(
    kafka_settings: Settings, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fakes.cluster import KafkaCluster

    settings = kafka_settings
    cluster = KafkaCluster(settings, tmp_path)  # type: ignore[arg-type]
    clients = KafkaClients(settings)
    await put_aside(clients, settings, *(kept(n) for n in range(3)))
    for name in ("kafka_bootstrap", "topic_prefix", "partitions"):
        monkeypatch.setenv(f"SENDTRACE_{name.upper()}", str(getattr(settings, name)))
    arguments = ["replay", "--from", "quarantine", "--json"]
    for expected in (3, 0):
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["topics"].get(STATUSES, 0) == expected
    async with running_joiner(settings, clients, cluster.open_store):
        found = await until_joined(clients, settings, 3)
    assert {lifecycle.facts[0].arrived_at_us for lifecycle in found.lifecycles.values()} == {
        CAME_US + n for n in range(3)
    }
