"""A person is forgotten: from HTTP to the rows, on real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from schemas.codec import TYPE_ERASE, header
from schemas.topics import INBOUND, SENDS
from sendtrace import forget as forgetting
from sendtrace.cli import cli
from sendtrace.runtime.kafka import KafkaClients, Record, partitions_of
from sendtrace.runtime.reading import open_reader, read_until
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import DependencyAway
from sinks.migrate import migrate
from sinks.postgres import PostgresWarehouse

from engine import output, produce, status_body
from fakes.cluster import KafkaCluster
from pipeline import Pipeline, running_pipeline

NUMBER, OTHER = "447700900000", "447700900999"
JSON = {"Content-Type": "application/json"}


def inbound(message_id: str, sender: str) -> bytes:
    return (
        f'{{"message_uuid":"{message_id}","from":"{sender}","to":"447700900001","channel":"sms",'
        '"message_type":"text","text":"Hello","timestamp":"2026-11-22T05:00:01Z"}'
    ).encode()


async def post(pipe: Pipeline, body: bytes) -> None:
    async with pipe.http.post(f"{pipe.public}/webhooks/any", data=body, headers=JSON) as response:
        assert response.status == 200


async def until(database: asyncpg.Connection, query: str, expected: object) -> None:
    async with asyncio.timeout(60):
        while await database.fetchval(query) != expected:
            await asyncio.sleep(0.02)


def as_environment(settings: Settings, patch: pytest.MonkeyPatch) -> None:
    for name in ("kafka_bootstrap", "topic_prefix", "partitions", "postgres_dsn"):
        patch.setenv(f"SENDTRACE_{name.upper()}", str(getattr(settings, name)))


async def command(*arguments: str, said: str | None = None) -> Result:
    def invoke() -> Result:
        return CliRunner().invoke(cli, ["forget", *arguments], input=said)

    return await asyncio.to_thread(invoke)


@asynccontextmanager
async def everything(settings: Settings, tmp_path: Path) -> AsyncIterator[Pipeline]:
    cluster = KafkaCluster(settings, tmp_path / "state")
    warehouse = PostgresWarehouse(settings.postgres_dsn)
    async with running_pipeline(settings, cluster, warehouse) as pipe:
        yield pipe
    await warehouse.close()


@pytest.fixture
async def settings(kafka_settings: Settings, postgres_dsn: str) -> Settings:
    await migrate(postgres_dsn)
    return replace(
        kafka_settings,
        postgres_dsn=postgres_dsn,
        edge_port=0,
        edge_internal_port=0,
        edge_drain_seconds=0,
    )


async def test_a_person_is_forgotten_and_stays_so(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_environment(settings, monkeypatch)
    database = await asyncpg.connect(settings.postgres_dsn)
    other = status_body("other", "delivered").replace(NUMBER.encode(), OTHER.encode())
    async with everything(settings, tmp_path) as pipe:
        for body in (
            status_body("mine-1", "submitted"),
            status_body("mine-2", "delivered"),
            other,
            inbound("in-mine", NUMBER),
            inbound("in-other", OTHER),
        ):
            await post(pipe, body)
        await until(
            database, "select (select count(*) from messages) + (select count(*) from inbound)", 5
        )
        looked = await command("--recipient", f"+{NUMBER}", "--dry-run", "--json")
        assert json.loads(looked.stdout) == {"dry_run": True, "messages": 2, "inbound": 1}
        assert await database.fetchval("select count(*) from messages") == 3

        done = await command("--recipient", "-", said="+44 7700 900000\n")
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[0].startswith("2 messages are erased")
        assert done.stdout.splitlines()[1] == "1 rows of inbound messages are deleted"
        assert "7700" not in done.output
        assert "mine" not in done.output
        await until(database, "select string_agg(message_id, ' ') from messages", "other")
        assert await database.fetchval("select string_agg(message_id, ' ') from inbound") == (
            "in-other"
        )
        assert await database.fetchval("select count(*) from message_events") == 1

        # What comes later: a status, and Vonage's repeat of the inbound message.
        await post(pipe, status_body("mine-1", "delivered"))
        await post(pipe, inbound("in-mine", NUMBER))
        await post(pipe, inbound("in-later", OTHER))
        await post(pipe, status_body("later", "delivered"))
        await until(database, "select count(*) from inbound where message_id = 'in-later'", 1)
        await until(database, "select count(*) from messages where message_id = 'later'", 1)
        async with asyncio.timeout(60):
            while pipe.figure("sendtrace_messages_withdrawn_total", outcome="delivered") < 1:
                await asyncio.sleep(0.02)
        again = await command("--message-id", "mine-1", "--json")
        assert json.loads(again.stdout)["messages"] == 1
    assert (
        await database.fetchval("select count(*) from messages where message_id like 'mine%'") == 0
    )
    assert await database.fetchval("select count(*) from inbound where message_id = 'in-mine'") == 0
    found = await output(KafkaClients(settings), settings)
    for message_id in ("mine-1", "mine-2"):
        value = json.loads(found.values[message_id])
        assert value.keys() <= {"message_id", "erased", "erased_at", "due_at_us"}
        assert value["erased"] is True
        assert NUMBER.encode() not in found.values[message_id]
    assert sum(found.truth("messages").values()) == 2  # `other` and `later`
    erasures = [r for r in await records(settings) if header(r.headers, "ce_type") == TYPE_ERASE]
    assert sorted(r.key for r in erasures) == [b"mine-1", b"mine-1", b"mine-2"]
    await database.close()


async def records(settings: Settings) -> list[Record]:
    partitions = partitions_of(settings, SENDS)
    async with open_reader(KafkaClients(settings), partitions) as reader:
        ends = await reader.end_offsets(partitions)
        return [r async for _, found in read_until(reader, ends) for r in found]


async def test_it_waits_for_the_loader_and_says_so(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the warehouse does not know all messages: nothing is done by halves."""
    monkeypatch.setattr(forgetting, "LOADER_TIMEOUT_SECONDS", 1)
    clients = KafkaClients(settings)
    await produce(clients, settings, [(NUMBER, inbound("in-1", NUMBER), [])], INBOUND)
    with pytest.raises(DependencyAway, match="loader is behind"):
        await forgetting.forget(clients, settings, recipient=NUMBER, now_us=lambda: 1)


@pytest.mark.parametrize(
    "arguments",
    [(), ("--recipient", "1", "--message-id", "x"), ("--recipient", " "), ("--message-id", "")],
)
async def test_one_of_the_two(arguments: tuple[str, ...]) -> None:
    assert (await command(*arguments)).exit_code == 2
