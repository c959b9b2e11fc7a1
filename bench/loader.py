"""The loader's work without Kafka, beside a bare COPY of the same rows, in turns on one PostgreSQL.

    python -m bench.loader [MESSAGES]

Two passes over the same messages: each new (send and `submitted`), then each again (`delivered`).
Each pass decodes every record, makes rows, and writes them with their positions in batches of
`SENDTRACE_LOADER_BATCH_RECORDS`. The reference is one binary COPY per batch of the finished rows
into tables without an index. Prints a line of JSON: messages a second, and CPU microseconds a
message (this process and its backend of PostgreSQL), which hold on a busy machine too. fsync is
off, as in the tests.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import asyncpg
import psutil

from processors.join.derive import summarise
from processors.join.policy import Policy
from schemas.codec import encode
from schemas.events import Fact, Send
from schemas.lifecycle import Lifecycle
from sendtrace.local.postgres import LocalPostgres
from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.settings import Settings
from sinks import statements
from sinks.changes import Batch, Changes
from sinks.migrate import migrate
from sinks.postgres import PostgresWarehouse
from sinks.rows import EVENTS, MESSAGES, InboundReading, Row, Table, Version

ROUNDS = 3
MESSAGES_NUMBER = 50_000
START_US = 1_763_800_000_000_000
PARTITION = Partition("bench.lifecycles", 0)
Records = list[tuple[bytes, bytes]]
Figures = dict[str, tuple[float, float]]


def lifecycle(number: int, statuses: Sequence[str]) -> Lifecycle:
    message_id = f"cccccccc-0000-4000-8000-{number * 7_919 % 10**9:012d}"
    at_us = START_US + number * 1_000
    send = Send(
        message_id=message_id, send_id=f"s{number}", api="messages", arrived_at_us=at_us,
        account="abcd1234", channel="sms", sender="447700900001",
        recipient=f"4474{number % 10**8:08d}", client_ref="order-4711", answer_status="202",
        requested_at_us=at_us, answered_at_us=at_us + 90_000, answer="accepted",
    )  # fmt: skip
    facts = tuple(
        Fact(
            kind="status", status=status, arrived_at_us=at_us + after * 1_000_000,
            provider_at_us=at_us + after * 900_000, account="abcd1234", api="messages",
            channel="sms", sender="447700900001", recipient=send.recipient, network="23410",
            price_units=3_330_000, currency="EUR", segments=1, version="v1",
        )
        for after, status in enumerate(statuses, 1)
    )  # fmt: skip
    made = Lifecycle(message_id=message_id, send=send, facts=facts)
    return Lifecycle(
        message_id=message_id, send=send, facts=facts, summary=summarise(made, Policy())
    )


def records(number: int, statuses: Sequence[str]) -> Records:
    return [
        (each.message_id.encode(), encode(each))
        for each in (lifecycle(n, statuses) for n in range(number))
    ]


def batches(passed: Records, first: int, *, with_events: bool) -> list[Changes]:
    size = Settings().loader_batch_records
    made = []
    for start in range(0, len(passed), size):
        batch = Batch(InboundReading())
        for at, (key, value) in enumerate(passed[start : start + size], first + start):
            batch.add_lifecycle(key, value, (), Version(1, 0, at))
        changes = batch.changes()
        made.append(changes if with_events else changes._replace(events=()))
    return made


async def load(dsn: str, passed: Records, first: int, *, with_events: bool) -> tuple[float, float]:
    """Seconds, and those of CPU, to decode and write. Each batch is made when it is its turn."""
    warehouse = PostgresWarehouse(dsn)
    size = Settings().loader_batch_records
    began, began_cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(passed), size):
        part = passed[start : start + size]
        [changes] = batches(part, first + start, with_events=with_events)
        at = first + start
        await warehouse.write(changes, {PARTITION: at}, {PARTITION: at + len(part)})
    took = time.perf_counter() - began
    cpu = cpu_seconds(warehouse._connection) - began_cpu  # noqa: SLF001
    await warehouse.close()
    return took, cpu


async def bare_copy(dsn: str, made: list[Changes], *, with_events: bool) -> tuple[float, float]:
    """Seconds, and those of CPU, to COPY the finished rows into tables without a key."""
    connection = await asyncpg.connect(dsn)
    for table in (MESSAGES, EVENTS):
        plain = statements.create_staging(table).replace("temporary table sendtrace", "table bare")
        await connection.execute(plain.replace("on commit delete rows", ""))
    began, began_cpu = time.perf_counter(), time.process_time()
    for changes in made:
        async with connection.transaction():
            await copy(connection, MESSAGES, changes.messages)
            if with_events:
                await copy(connection, EVENTS, changes.events)
    took, cpu = time.perf_counter() - began, cpu_seconds(connection) - began_cpu
    for table in (MESSAGES, EVENTS):
        await connection.execute(f"drop table bare_staging_{table.name}")
    await connection.close()
    return took, cpu


async def copy(connection: asyncpg.Connection, table: Table, rows: Sequence[Row]) -> None:
    name = f"bare_staging_{table.name}"
    await connection.copy_records_to_table(name, records=rows, columns=table.names)


def cpu_seconds(connection: asyncpg.Connection | None) -> float:
    """Of this process, and of its backend all its life."""
    assert connection is not None
    backend = psutil.Process(connection.get_server_pid()).cpu_times()
    return time.process_time() + float(backend.user + backend.system)


async def one_round(dsn: str, fresh: Records, again: Records, *, with_events: bool) -> Figures:
    """Of each pass and of the bare COPY: messages a second, CPU microseconds a message."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("truncate messages, message_events, sink_offsets")
    await connection.close()
    warehouse = PostgresWarehouse(dsn)
    await warehouse.adopt({PARTITION: 0})
    await warehouse.close()
    number = len(fresh)
    made = batches(again, 0, with_events=with_events)
    figures = {}
    for name, work in (
        ("new", partial(load, dsn, fresh, 0)),
        ("again", partial(load, dsn, again, number)),
        ("bare_copy", partial(bare_copy, dsn, made)),
    ):
        seconds, cpu = await work(with_events=with_events)
        figures[name] = (number / seconds, cpu * 1e6 / number)
    return figures


async def main(number: int) -> None:
    # As every process of sendtrace does (sendtrace/cli.py): what stays is out of its sight.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    fresh = records(number, ["submitted"])
    again = records(number, ["submitted", "delivered"])
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        server = await LocalPostgres.start(Path(directory) / "data", port=0, fsync=False)
        try:
            await migrate(server.dsn)
            for what, with_events in (("messages alone", False), ("with facts", True)):
                rounds = [
                    await one_round(server.dsn, fresh, again, with_events=with_events)
                    for _ in range(ROUNDS)
                ]
                for name in rounds[0]:
                    result[f"{what}, {name}"] = {
                        "per_second": round(max(each[name][0] for each in rounds)),
                        "cpu_us": round(min(each[name][1] for each in rounds), 1),
                    }
        finally:
            await server.stop()
    print(encode(result).decode())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES_NUMBER))
