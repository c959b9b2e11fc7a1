"""One webhook, from HTTP to a row and a figure: in memory in under a second, and for real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from schemas.topics import INBOUND, QUARANTINE
from sendtrace.runtime.settings import Settings
from sinks.migrate import migrate
from sinks.postgres import PostgresWarehouse
from sinks.rows import MESSAGES

from engine import read_all
from fakes.cluster import KafkaCluster, MemoryCluster
from fakes.warehouse import MemoryWarehouse
from pipeline import Pipeline, running_pipeline

SEEDS = Path(__file__).parent.parent / "data" / "seeds"
V1_ID, SMS_ID, ALERTS_ID = (
    "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
    "0A0000001234567B",
    "000000FFFB0356D2",
)
NO_STATUS = b'{"message_uuid":"x"}'
TOLD = ["accepted", "submitted", "delivered"]
SEND = {
    "api": "messages",
    "account": "abcd1234",
    "request": {"channel": "sms", "to": "447700900000", "from": "447700900001", "text": "secret"},
    "answer": {"status": 202, "body": {"message_uuid": V1_ID}},
    "requested_at": "2025-02-03T12:14:24.000Z",
    "answered_at": "2025-02-03T12:14:24.100Z",
}


async def post_everything(pipeline: Pipeline) -> None:
    """The seeds' own examples of what is understood, one send, and one that is not understood."""
    http, public = pipeline.http, pipeline.public
    json_header = {"Content-Type": "application/json"}
    form_header = {"Content-Type": "application/x-www-form-urlencoded"}
    query = (SEEDS / "receipt_query.txt").read_text().strip()
    # One segment: a latency of several is Vonage's waiting for them, and stays out of the headline.
    status = (SEEDS / "messages_v1_status.json").read_bytes()
    status = status.replace(b'"count_total": "2"', b'"count_total": "1"')
    for response in [
        await http.post(f"{pipeline.internal}/sends", json=SEND),
        await http.post(f"{public}/webhooks/status", data=status, headers=json_header),
        await http.post(
            f"{public}/webhooks/status",
            data=status.replace(b'"submitted"', b'"delivered"').replace(b":25Z", b":28Z"),
            headers=json_header,
        ),
        await http.get(f"{public}/webhooks/dlr?{query}"),
        await http.post(
            f"{public}/webhooks/dlr",
            data=(SEEDS / "receipt_form.txt").read_bytes().strip(),
            headers=form_header,
        ),
        await http.post(
            f"{public}/webhooks/dlr",
            data=(SEEDS / "receipt.json").read_bytes(),
            headers=json_header,
        ),
        await http.post(
            f"{public}/webhooks/inbound",
            data=(SEEDS / "sms_inbound.json").read_bytes(),
            headers=json_header,
        ),
        await http.post(f"{public}/webhooks/status", data=NO_STATUS, headers=json_header),
    ]:
        assert response.status == 200, await response.text()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


def assert_row_of_the_status(row: Mapping[str, Any]) -> None:
    assert (row["outcome"], row["is_final"], row["channel"]) == ("delivered", True, "sms")
    assert (row["account"], row["recipient"]) == ("abcd1234", "447700900000")
    assert row["carrier_latency_ms"] == 3000
    assert (row["currency"], row["cost_source"]) == ("EUR", "event")


def assert_figures(pipeline: Pipeline) -> None:
    entered = pipeline.figure("sendtrace_messages_total", outcome="delivered")
    assert entered - pipeline.figure("sendtrace_messages_withdrawn_total", outcome="delivered") >= 2
    assert pipeline.figure("sendtrace_carrier_latency_seconds_count", account="abcd1234") == 1
    assert pipeline.figure("sendtrace_carrier_latency_seconds_sum", account="abcd1234") == 3
    cost = pipeline.figure("sendtrace_cost_total", account="abcd1234")
    assert round(cost - pipeline.figure("sendtrace_cost_withdrawn_total"), 8) == 0.0333


async def test_in_memory_in_under_a_second() -> None:
    """The quickest of three: on a busy machine any one may take long."""
    took = float("inf")
    for _ in range(3):
        if (took := await walked_in_memory()) < 1:
            break
    assert took < 1


async def walked_in_memory() -> float:
    """The seconds from the start of all to the last figure."""
    settings = Settings(
        topic_prefix="test.",
        partitions=3,
        transaction_interval_ms=10,
        loader_interval_ms=10,
        edge_port=0,
        edge_internal_port=0,
        edge_drain_seconds=0,
        edge_budget_seconds=60,
    )
    cluster, warehouse = MemoryCluster(settings), MemoryWarehouse()
    began = time.monotonic()
    async with running_pipeline(settings, cluster, warehouse) as pipe:
        await post_everything(pipe)

        async def arrived() -> bool:
            row = warehouse.rows.get(V1_ID)
            return (
                len(warehouse.rows) == 4
                and len(warehouse.inbound) == 1
                and row is not None
                and dict(zip(MESSAGES.names, row, strict=True))["outcome"] == "delivered"
                and pipe.figure("sendtrace_carrier_latency_seconds_count") == 1
            )

        await until(arrived, 60)
        row = dict(zip(MESSAGES.names, warehouse.rows[V1_ID], strict=True))
        assert_row_of_the_status(row)
        assert row["cost"] == 3_330_000  # in units of 1e-8: PostgreSQL divides
        assert {key[2] for key in warehouse.events if key[0] == V1_ID} == {"submitted", "delivered"}
        assert_figures(pipe)
        took = time.monotonic() - began
    kept = cluster.log.records("test." + QUARANTINE)
    assert [entry.value for entry in kept] == [NO_STATUS]
    assert "reason" in dict(kept[0].headers)
    inbound = cluster.log.records("test." + INBOUND)
    assert [entry.value for entry in inbound] == [(SEEDS / "sms_inbound.json").read_bytes()]
    assert not any(
        b"secret" in (e.value or b"") for log in cluster.log.entries.values() for e in log
    )
    return took


async def test_on_real_kafka_and_postgresql(
    kafka_settings: Settings, postgres_dsn: str, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        kafka_settings, edge_port=0, edge_internal_port=0, edge_drain_seconds=0
    )
    await migrate(postgres_dsn)
    cluster, warehouse = KafkaCluster(settings, tmp_path / "state"), PostgresWarehouse(postgres_dsn)
    database = await asyncpg.connect(postgres_dsn)
    async with running_pipeline(settings, cluster, warehouse) as pipe:
        await post_everything(pipe)

        async def arrived() -> bool:
            done = "select count(*) from messages where outcome = 'delivered'"
            return (
                await database.fetchval(done) == 4
                and await database.fetchval("select count(*) from inbound_messages") == 1
                and pipe.figure("sendtrace_carrier_latency_seconds_count") == 1
            )

        await until(arrived, 60)
        row = await database.fetchrow("select * from messages where message_id = $1", V1_ID)
        assert_row_of_the_status(row)
        assert row["cost"] == Decimal("0.0333")
        told = "select status from message_timeline where message_id = $1 order by at"
        assert [each["status"] for each in await database.fetch(told, V1_ID)] == TOLD
        assert_figures(pipe)
    await warehouse.close()
    await database.close()
    kept = await read_all(cluster.clients, settings, QUARANTINE)
    assert [value for _, value in kept] == [NO_STATUS]
    inbound = await read_all(cluster.clients, settings, INBOUND)
    assert [value for _, value in inbound] == [(SEEDS / "sms_inbound.json").read_bytes()]
