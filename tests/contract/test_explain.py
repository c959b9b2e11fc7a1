"""The command on real Kafka and PostgreSQL: from the warehouse, and from the topic without it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from schemas.codec import cloud_event, encode
from schemas.events import Erase, Send
from schemas.topics import INBOUND, SENDS, STATUSES
from sendtrace.cli import cli
from sendtrace.runtime.kafka import KafkaClients
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings
from sinks.loader import load
from sinks.migrate import migrate
from sinks.postgres import PostgresWarehouse

from engine import ARRIVED_US, produce, running_joiner, status_body, status_headers
from fakes.cluster import KafkaCluster

NUMBER = "447700900000"
# Of tests/engine.py's statuses.
SEND = Send(
    message_id="open", send_id="call-1", api="messages", arrived_at_us=ARRIVED_US, account="acme",
    channel="sms", recipient=NUMBER, client_ref="order 7", answer="accepted", answer_status="202",
    requested_at_us=ARRIVED_US, clock="ours",
)  # fmt: skip
UNANSWERED = replace(
    SEND, message_id="call-2.1", send_id="call-2", answer="unanswered", answer_status=None
)
# What may have become of it: heard of, and never sent, as far as anybody knows.
PERHAPS = (
    f'{{"message_uuid":"perhaps","to":"{NUMBER}","from":"447700900001","client_ref":"order 7",'
    '"timestamp":"2026-11-22T05:00:04Z","status":"delivered","channel":"sms"}'
).encode()


async def command(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli, ["explain", *arguments])


def headers_of(ce_type: str, source: str = "/x", verified: str = "none") -> list[tuple[str, bytes]]:
    return cloud_event(
        ce_type=ce_type, ce_id="1", source=source, at_us=ARRIVED_US,
        content_type="application/json", verified=verified,
    )  # fmt: skip


async def test_from_the_warehouse_and_from_the_topic(
    kafka_settings: Settings, postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(postgres_dsn)
    settings = replace(kafka_settings, postgres_dsn=postgres_dsn, loader_interval_ms=20)
    for name in ("kafka_bootstrap", "topic_prefix", "partitions", "postgres_dsn"):
        monkeypatch.setenv(f"SENDTRACE_{name.upper()}", str(getattr(settings, name)))
    clients, cluster = KafkaClients(settings), KafkaCluster(settings, tmp_path / "state")
    now_us = time.time_ns() // 1000  # no deadline of it goes by between two commands
    still = replace(SEND, arrived_at_us=now_us, requested_at_us=now_us)
    await produce(
        clients,
        settings,
        [
            (s.message_id, encode(s), headers_of("com.sendtrace.send.v1"))
            for s in (still, UNANSWERED)
        ],
        SENDS,
    )
    await produce(
        clients,
        settings,
        [
            ("mine", status_body("mine", "delivered", 4), status_headers()),
            ("gone", status_body("gone", "delivered", 4), status_headers()),
            (
                "perhaps",
                PERHAPS,
                headers_of("com.vonage.messages.status.v1", "//acme/webhooks/status", "jwt"),
            ),
        ],
        STATUSES,
    )
    came = PERHAPS.replace(b'"status":"delivered"', b'"message_type":"text","text":"STOP"')
    came = came.replace(b"perhaps", b"came-in")
    await produce(clients, settings, [(NUMBER, came, headers_of("x"))], INBOUND)
    warehouse, stopping = PostgresWarehouse(postgres_dsn), asyncio.Event()
    database = await asyncpg.connect(postgres_dsn)
    async with running_joiner(settings, clients, cluster.open_store):
        loading = asyncio.create_task(load(clients, warehouse, settings, Health(), stopping))
        async with asyncio.timeout(60):
            while (
                await database.fetchval(
                    "select (select count(*) from messages) + (select count(*) from inbound)"
                )
                != 6
            ):
                await asyncio.sleep(0.02)
            erase = encode(Erase(message_id="gone", arrived_at_us=ARRIVED_US))
            erasure = [("gone", erase, headers_of("com.sendtrace.erase.v1"))]
            await produce(clients, settings, erasure, SENDS)
            while await database.fetchval("select count(*) from messages") != 4:
                await asyncio.sleep(0.02)
        stopping.set()
        await loading
    await warehouse.close()
    await database.close()

    by_row = await command("mine")
    assert by_row.exit_code == 0, by_row.output
    assert by_row.stdout.startswith("mine: delivered (final) since 2026-11-22 05:00:04.000 UTC")
    assert by_row.stdout.endswith("(from the warehouse)\n")
    assert NUMBER not in by_row.stdout
    assert NUMBER in (await command("mine", "--show-numbers")).stdout

    still_open = json.loads((await command("open", "--json")).stdout)
    assert still_open["headline"].startswith("pending (open)")
    assert still_open["next"].startswith("the next deadline is ")
    guess = json.loads((await command("call-2.1", "--json")).stdout)
    assert guess["candidates"][0].startswith("A GUESS: it may be perhaps, ")
    assert "It came in at" in (await command("came-in")).stdout
    assert "  1  open" in (await command("call-1")).stdout
    assert "It was erased at" in (await command("gone")).stdout
    unknown = await command("nobody")
    assert (unknown.exit_code, unknown.stdout) == (5, "")

    monkeypatch.setenv("SENDTRACE_POSTGRES_DSN", "postgresql://sendtrace@127.0.0.1:1/sendtrace")
    by_topic = await command("mine")
    assert by_topic.exit_code == 0, by_topic.output
    assert by_topic.stdout.replace("(from the topic)", "(from the warehouse)") == by_row.stdout
    assert json.loads((await command("open", "--json")).stdout)["next"] == still_open["next"]
