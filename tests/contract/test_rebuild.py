"""The warehouse derived anew, while the loader runs: on real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from processors.join.derive import summarise
from processors.join.facts import empty, with_erase, with_fact
from processors.join.policy import Policy
from schemas.codec import TYPE_INBOUND, Headers, cloud_event, encode
from schemas.events import Fact
from schemas.lifecycle import Lifecycle
from schemas.topics import INBOUND, LIFECYCLES
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import KafkaClients
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings
from sinks import rebuild as rebuilding
from sinks.loader import load
from sinks.migrate import migrate
from sinks.postgres import PostgresWarehouse, RowsRefused, SourceChanged
from sinks.rebuild import Progress, RebuildBusy, Report, rebuild
from sinks.rows import TABLES

from engine import ARRIVED_US, Traffic, produce, running_joiner
from fakes.cluster import KafkaCluster

COLUMNS = {table.name: ", ".join(table.names) for table in TABLES}
KEYS = {table.name: ", ".join(table.key) for table in TABLES}


class Stack:
    """A database, and what a test asks it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clients = KafkaClients(settings)

    async def ask(self, query: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.settings.postgres_dsn)
        try:
            return await connection.fetch(query, *values)
        finally:
            await connection.close()

    async def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        return {
            name: [
                tuple(row)
                for row in await self.ask(f"select {columns} from {name} order by {KEYS[name]}")
            ]
            for name, columns in COLUMNS.items()
        }

    async def until(self, query: str, expected: object) -> None:
        async with asyncio.timeout(60):
            while (await self.ask(query))[0][0] != expected:
                await asyncio.sleep(0.03)

    async def rebuild(self, told: Any = lambda progress: None) -> Report:
        cluster_id = await topics.cluster_id(self.settings)
        return await rebuild(self.clients, self.settings, cluster_id, told)

    @asynccontextmanager
    async def loading(self, settings: Settings | None = None) -> AsyncIterator[None]:
        settings = settings or self.settings
        warehouse, stopping = PostgresWarehouse(settings.postgres_dsn), asyncio.Event()
        cluster_id = await topics.cluster_id(settings)
        task = asyncio.create_task(
            load(self.clients, warehouse, settings, Health(), stopping, cluster_id=cluster_id)
        )
        try:
            yield
        finally:
            stopping.set()
            await task
            await warehouse.close()

    async def loaded_anew(self) -> dict[str, list[tuple[Any, ...]]]:
        """The tables as a loader makes them that reads the topics into an empty schema."""
        await self.ask("create schema fresh")
        settings = replace(
            self.settings, postgres_dsn=f"{self.settings.postgres_dsn}?search_path=fresh"
        )
        await migrate(settings.postgres_dsn)
        fresh = Stack(settings)
        async with fresh.loading():
            await self.until_level(fresh)
        return await fresh.tables()

    async def until_level(self, other: Stack) -> None:
        """Until the other has read as far as this."""
        query = "select topic, partition, next from sink_offsets order by 1, 2"
        async with asyncio.timeout(60):
            while await other.ask(query) != await self.ask(query):
                await asyncio.sleep(0.05)


@pytest.fixture
async def stack(kafka_settings: Settings, postgres_dsn: str) -> Stack:
    await migrate(postgres_dsn)
    return Stack(
        replace(
            kafka_settings,
            postgres_dsn=postgres_dsn,
            loader_batch_records=50,
            loader_interval_ms=20,
        )
    )


def lifecycle(message_id: str, *statuses: str, fragment: bool = False) -> Lifecycle:
    made = replace(empty(message_id), fragment=fragment)
    for second, status in enumerate(statuses):
        made = with_fact(
            made,
            Fact(
                kind="status", status=status, arrived_at_us=ARRIVED_US + second * 1_000_000,
                provider_at_us=ARRIVED_US, provider_step_us=1_000_000, recipient="447700900000",
            ),
        )  # fmt: skip
    return replace(made, summary=summarise(made, Policy()))


async def put(stack: Stack, *lifecycles: Lifecycle) -> None:
    await produce(stack.clients, stack.settings, map(record, lifecycles), LIFECYCLES)


def record(made: Lifecycle) -> tuple[str, bytes, Headers]:
    return made.message_id, encode(made), []


async def put_gone(stack: Stack, message_id: str, reason: str) -> None:
    tombstone: Any = (message_id, None, [("reason", reason.encode())])
    await produce(stack.clients, stack.settings, [tombstone], LIFECYCLES)


def inbound(number: int, at_us: int = ARRIVED_US) -> tuple[str, bytes, Headers]:
    body = (
        f'{{"message_uuid":"in-{number}","from":"447700900123","to":"447700900001",'
        '"channel":"sms","message_type":"text","text":"STOP","timestamp":"2026-11-22T05:00:01Z"}'
    ).encode()
    headers = cloud_event(
        ce_type=TYPE_INBOUND,
        ce_id=str(number),
        source="/webhooks/inbound",
        at_us=at_us,
        content_type="application/json",
    )
    return "447700900123", body, headers


OLD = (
    "insert into messages (message_id, outcome, is_final, sent_at, flags, topic_epoch,"
    " source_partition, source_offset) values ('old', 'delivered', true,"
    " now() - interval '1 year', '{late}', 1, 0, -1);"
    "insert into message_events (message_id, kind, status, code, segment, account, arrived_at)"
    " values ('old', 'status', 'delivered', '', '', '', now() - interval '1 year');"
    "insert into rollups (id, kind, outcome, is_final, is_open, known, delivered, traffic,"
    " truncated, topic_epoch, source_partition, source_offset, updated_at)"
    " values ('old', 'parts', 'delivered', true, false, 2, 2, 'live', false, 1, 0, -1,"
    " now() - interval '1 year');"
    "insert into inbound (message_id, part, api, arrived_at, keyword_class, traffic, topic_epoch,"
    " source_partition, source_offset) values ('old', 1, 'sms', now() - interval '1 year', 'none',"
    " 'live', 1, 0, -1)"
)
DAMAGE = (
    "update messages set outcome = 'failed', source_offset = 999999 where message_id < 'id-000100'"
    " and message_id like 'id-%';"
    "delete from messages where message_id between 'id-000100' and 'id-000120';"
    "update message_events set code = 'wrong' where message_id = 'id-000130';"
    "insert into message_events (message_id, kind, status, code, segment, account, arrived_at)"
    " values ('id-000131', 'status', 'invented', '', '', '', now());"
    "update inbound set keyword_class = 'none' where message_id = 'in-1';"
    "delete from inbound where message_id = 'in-2'"
)


async def run(stack: Stack, script: str) -> None:
    connection = await asyncpg.connect(stack.settings.postgres_dsn)
    await connection.execute(script)
    await connection.close()


def without_old(tables: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    return {name: [row for row in rows if row[0] != "old"] for name, rows in tables.items()}


def only_old(tables: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    return {name: [row for row in rows if row[0] == "old"] for name, rows in tables.items()}


async def filled(stack: Stack, messages: int = 200) -> None:
    """Messages by way of a joiner, inbound ones, and rows that no topic has any more."""
    await produce(stack.clients, stack.settings, Traffic(messages).records)
    await produce(stack.clients, stack.settings, map(inbound, range(5)), INBOUND)


async def test_while_the_loader_runs_and_messages_come_in(stack: Stack, tmp_path: Path) -> None:
    settings, clients = stack.settings, stack.clients
    cluster = KafkaCluster(settings, tmp_path / "state")
    await run(stack, OLD)
    await run(stack, "create view mine as select outcome, count(*) from messages group by 1")
    oids = await stack.ask("select 'messages'::regclass::oid")
    more = Traffic(1_000).records[600:]
    async with running_joiner(settings, clients, cluster.open_store), stack.loading():
        await filled(stack)
        await stack.until("select count(*) from message_events", 401)
        await stack.until("select count(*) from inbound", 6)
        await run(stack, DAMAGE)
        old = only_old(await stack.tables())

        async def come_in() -> None:
            for at in range(0, len(more), 60):
                await produce(clients, settings, more[at : at + 60])
                await asyncio.sleep(0.05)

        coming = asyncio.create_task(come_in())
        reports = [await stack.rebuild(), await stack.rebuild()]
        await coming
        await stack.until("select count(*) from message_events", 2_001)
    found = await stack.tables()
    assert without_old(found) == await stack.loaded_anew()
    assert only_old(found) == old
    assert [len(rows) for rows in old.values()] == [1, 1, 1, 1]
    assert [tuple(row) for row in await stack.ask("select * from mine")] == [("delivered", 1_001)]
    assert oids == await stack.ask("select 'messages'::regclass::oid")
    assert reports[0].changed["messages"] >= 121
    assert reports[1].changed["inbound"] == 0  # nothing to mend, nothing written


async def test_what_the_loader_loads_before_the_lock_is_not_taken_back(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shadow is older then, and the loader would never read it again."""
    locked = rebuilding._Shadow.locked

    @asynccontextmanager
    async def late(shadow: Any) -> AsyncIterator[None]:
        await put(stack, lifecycle("m1", "submitted", "delivered"))
        await stack.until("select count(*) from messages where outcome = 'delivered'", 1)
        async with locked(shadow):
            yield

    monkeypatch.setattr(rebuilding._Shadow, "locked", late)
    await put(stack, lifecycle("m1", "submitted"))
    async with stack.loading():
        await stack.until("select count(*) from messages", 1)
        await stack.rebuild()
    assert await stack.tables() == await stack.loaded_anew()


async def test_the_loader_waits_while_the_tables_are_swapped(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its newer row would be replaced by the shadow's. Readers do not wait."""
    swap = rebuilding._Shadow.swap

    async def slow(shadow: Any, report: Report) -> None:
        await put(stack, lifecycle("m1", "submitted", "delivered"))
        await asyncio.sleep(1)
        assert [row[0] for row in await stack.ask("select outcome from messages")] == ["pending"]
        await swap(shadow, report)

    monkeypatch.setattr(rebuilding._Shadow, "swap", slow)
    await put(stack, lifecycle("m1", "submitted"))
    async with stack.loading():
        await stack.until("select count(*) from messages", 1)
        await stack.rebuild()
        await stack.until("select outcome from messages", "delivered")
    assert await stack.tables() == await stack.loaded_anew()


class Killed(BaseException):
    """The process is gone."""


async def test_killed_at_each_stage_it_changes_nothing_and_runs_again(stack: Stack) -> None:
    made = [lifecycle(f"id-{n:06}", "submitted", "delivered") for n in range(200)]
    await put(stack, *made)
    await run(stack, OLD)
    seen: list[str] = []
    async with stack.loading():
        await stack.until("select count(*) from message_events", 401)
        await run(stack, DAMAGE)
        for at in range(100):
            before = await stack.tables()
            stages: list[str] = []

            def die(progress: Progress, at: int = at, stages: list[str] = stages) -> None:
                stages.append(progress.stage)
                if len(stages) > at:
                    raise Killed

            try:
                await stack.rebuild(die)
            except Killed:
                seen.append(stages[-1])
            else:
                break
            if stages[-1] == "done":
                continue
            assert await stack.tables() == before
            # The loader goes on.
            await put(stack, lifecycle(f"more-{at}", "delivered"))
            await stack.until(f"select count(*) from messages where message_id = 'more-{at}'", 1)
    assert set(seen) == {"reading", "waiting for the loader", "swapping", "done"}
    assert without_old(await stack.tables()) == await stack.loaded_anew()
    schemas = await stack.ask("select nspname from pg_namespace where nspname like '%rebuild'")
    assert schemas == []


async def test_a_process_that_is_killed_leaves_the_loader_undisturbed(stack: Stack) -> None:
    """SIGKILL while it waits for its locks; then it runs again."""
    await put(stack, *(lifecycle(f"id-{n:06}", "submitted", "delivered") for n in range(200)))
    settings = stack.settings
    environment = {name: value for name, value in os.environ.items() if "SENDTRACE" not in name}
    for name in ("kafka_bootstrap", "topic_prefix", "partitions", "postgres_dsn"):
        environment[f"SENDTRACE_{name.upper()}"] = str(getattr(settings, name))

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sendtrace", "rebuild", "--json", env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async with stack.loading():
        await stack.until("select count(*) from messages", 200)
        await run(stack, DAMAGE)
        holder = await asyncpg.connect(settings.postgres_dsn)
        async with holder.transaction():
            await holder.execute(
                "update messages set outcome = outcome where message_id = 'id-000150'"
            )
            process = await start()
            assert process.stderr is not None
            async with asyncio.timeout(60):
                while b"waiting" not in await process.stderr.readline():
                    pass
            process.send_signal(signal.SIGKILL)
            await process.wait()
        await holder.close()
        await put(stack, lifecycle("more", "delivered"))
        await stack.until("select count(*) from messages where message_id = 'more'", 1)
        assert len(await stack.ask("select from messages where outcome = 'failed'")) == 100
        process = await start()
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        assert json.loads(out)["derived"]["messages"] == 201
        assert err.decode().splitlines()[-1].startswith("done: ")
    assert await stack.tables() == await stack.loaded_anew()


async def test_what_the_topics_forgot_is_deleted_and_what_expired_stays(stack: Stack) -> None:
    """As after a restored backup: the rows are back, and the topic says that they are to go."""
    ids = ["erased", "forgotten", "expired", "begun-anew"]
    await put(stack, *(lifecycle(each, "submitted", "delivered") for each in ids))
    await put(stack, with_erase(empty("erased"), ARRIVED_US))
    await put_gone(stack, "forgotten", "forgotten")
    await put_gone(stack, "expired", "expired")
    await put_gone(stack, "begun-anew", "forgotten")
    await put(stack, lifecycle("begun-anew", "submitted"))
    async with stack.loading():
        await stack.until("select count(*) from messages", 2)
        await run(stack, OLD.replace("'old'", "'erased'"))
        await run(stack, OLD.partition(";")[0].replace("'old'", "'forgotten'"))
        await stack.rebuild()
    tables = await stack.tables()
    assert [row[0] for row in tables["messages"]] == ["begun-anew", "expired"]
    assert [row[0] for row in tables["message_events"]] == ["begun-anew", "expired", "expired"]


async def test_a_fragment_adds_to_a_row_that_is_older_than_the_topic(stack: Stack) -> None:
    await run(stack, OLD)
    await put(stack, lifecycle("old", "read", fragment=True))
    before = await stack.tables()
    async with stack.loading():
        await stack.until("select count(*) from messages where outcome = 'read'", 1)
    loaded = await stack.tables()
    assert loaded != before
    await stack.rebuild()
    assert await stack.tables() == loaded
    [row] = await stack.ask("select * from messages")
    assert (row["fragment"], row["flags"]) == (False, ["fragment", "late"])
    assert row["sent_at"] is not None


async def test_a_repeat_keeps_the_first_arrival_and_the_forgotten_stay_away(stack: Stack) -> None:
    await run(stack, OLD.replace("'old'", "'in-1'"))
    [first] = await stack.ask("select arrived_at from inbound")
    await produce(stack.clients, stack.settings, map(inbound, range(3)), INBOUND)
    await run(stack, "insert into inbound_forgotten (message_id) values ('in-2')")
    async with stack.loading():
        await stack.until("select count(*) from inbound", 2)
        await stack.rebuild()
    rows = await stack.ask("select message_id, arrived_at from inbound order by 1")
    assert [row["message_id"] for row in rows] == ["in-0", "in-1"]
    assert rows[1]["arrived_at"] == first["arrived_at"]


async def test_into_an_empty_warehouse_before_any_loader(stack: Stack) -> None:
    await put(stack, *(lifecycle(f"id-{n:06}", "delivered") for n in range(10)))
    report = await stack.rebuild()
    assert report.changed["messages"] == 10
    before = await stack.tables()
    async with stack.loading():
        await stack.until("select coalesce(sum(next), 0)::int from sink_offsets", 10)
    assert await stack.tables() == before


async def test_one_at_a_time(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "LOCK_TIMEOUT_SECONDS", 1)
    holder = await asyncpg.connect(stack.settings.postgres_dsn)
    await holder.execute("select pg_advisory_lock($1)", rebuilding.LOCK)
    with pytest.raises(RebuildBusy):
        await stack.rebuild()
    await holder.close()


async def test_another_cluster_s_rows_are_left_alone(stack: Stack) -> None:
    async with stack.loading():
        await stack.until("select count(*) from sink_offsets", 9)
    with pytest.raises(SourceChanged, match="of Kafka cluster"):
        await rebuild(stack.clients, stack.settings, "another")
    await run(stack, "update sink_offsets set next = 1000 where partition = 1")
    with pytest.raises(SourceChanged, match="read is 1000"):
        await stack.rebuild()


async def test_a_rule_that_forbids_a_row_changes_nothing(stack: Stack) -> None:
    await put(stack, *(lifecycle(f"id-{n:06}", "delivered") for n in range(10)))
    await run(stack, "alter table messages add check (message_id <> 'id-000007')")
    with pytest.raises(RowsRefused, match="Nothing was changed"):
        await stack.rebuild()
    assert (await stack.tables())["messages"] == []
