"""CPU per input event of the joiner, beside a bare consume-decode-produce loop with transactions.

    python -m bench.join fill|joiner|bare MESSAGES    (settings from the environment)

Both read the same topics with the same client settings. The bare loop keeps no state, joins
nothing, restores nothing: it is the floor. Each runs in a process of its own, which prints its CPU
(user + system) as one line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from processors.joining import INPUTS
from processors.store import RocksStore
from processors.wiring import JOINER, running
from schemas.codec import TYPE_SEND, TYPE_STATUS, cloud_event, encode
from schemas.events import Send
from schemas.topics import SENDS, STATUSES, partition_of
from sendtrace.runtime.kafka import Batch, Clients, KafkaClients, Partition
from sendtrace.runtime.loop import LoopMetrics
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings, from_environment

EVENTS_PER_MESSAGE = 3
LIMIT_SECONDS = 240.0


def status_body(message_id: str, status: str, second: int) -> bytes:
    return (
        f'{{"message_uuid":"{message_id}","to":"447700900000","from":"447700900001",'
        f'"timestamp":"2026-11-22T05:00:{second:02}Z","status":"{status}",'
        '"client_ref":"order-4711","usage":{"currency":"EUR","price":"0.0333"},"channel":"sms",'
        '"destination":{"network_code":"23410"},"sms":{"count_total":"1"}}'
    ).encode()


def _send(message_id: str, at_us: int) -> bytes:
    return encode(
        Send(
            message_id=message_id,
            send_id=message_id,
            api="messages",
            arrived_at_us=at_us,
            account="abcd1234",
            channel="sms",
            sender="447700900001",
            recipient="447700900000",
            answer_status="202",
        )
    )


EventToFill = tuple[str, str, bytes]  # topic without prefix, message id, value


def events_of(messages: int) -> Iterator[EventToFill]:
    """A send and two statuses per message; not in order of message."""
    at_us = time.time_ns() // 1000  # arrivals long ago would all be overdue
    for block in range(0, messages, 2_000):
        ids = [
            f"bbbbbbbb-0000-4000-8000-{n:012d}" for n in range(block, min(messages, block + 2_000))
        ]
        yield from ((SENDS, i, _send(i, at_us)) for i in ids)
        yield from ((STATUSES, i, status_body(i, "submitted", 1)) for i in ids)
        yield from ((STATUSES, i, status_body(i, "delivered", 4)) for i in ids)


async def produce(clients: Clients, settings: Settings, events: Iterable[EventToFill]) -> None:
    """Events as the edge writes them, with arrivals of now."""
    producer = clients.producer()
    await producer.start()
    at_us = time.time_ns() // 1000
    headers = {
        topic: cloud_event(
            ce_type=ce_type,
            ce_id="0123456789abcdef0123456789abcdef",
            source="/webhooks/status",
            at_us=at_us,
            content_type="application/json",
        )
        for topic, ce_type in ((STATUSES, TYPE_STATUS), (SENDS, TYPE_SEND))
    }
    batches: dict[tuple[str, int], Batch] = {}
    acks = []
    for topic, message_id, value in events:
        key = message_id.encode()
        target = topic, partition_of(key, settings.partitions)
        batch = batches.get(target)
        if batch is None:
            batch = batches[target] = producer.create_batch()
        if batch.append(timestamp=None, key=key, value=value, headers=headers[topic]) is None:
            acks.append(
                await producer.send_batch(batch, settings.topic(topic), partition=target[1])
            )
            batch = batches[target] = producer.create_batch()
            batch.append(timestamp=None, key=key, value=value, headers=headers[topic])
    for (topic, partition), batch in batches.items():
        acks.append(await producer.send_batch(batch, settings.topic(topic), partition=partition))
    await asyncio.gather(*acks)
    await producer.stop()


async def run_joiner(clients: Clients, settings: Settings, events: int) -> None:
    """The joiner as it is, until it has committed every event."""
    registry = CollectorRegistry()
    metrics = LoopMetrics(registry)
    stopping = asyncio.Event()
    with tempfile.TemporaryDirectory() as directory:
        async with running(
            JOINER,
            settings,
            clients,
            lambda partition: RocksStore(Path(directory) / str(partition)),
            "bench",
            None,
            metrics,
            Health(),
        ) as loop:
            joining = asyncio.create_task(loop.run(stopping))
            while (registry.get_sample_value("sendtrace_loop_records_total") or 0) < events:
                assert not joining.done(), joining.result()
                await asyncio.sleep(0.05)
            stopping.set()
            await joining


class _Seen(msgspec.Struct):
    """What the bare loop decodes of an event."""

    message_uuid: str = ""
    message_id: str = ""
    status: str = ""


async def run_bare(clients: Clients, settings: Settings, events: int) -> None:
    """Consume, decode three fields, produce one record an event, a transaction each 200 ms."""
    decode = msgspec.json.Decoder(_Seen).decode
    consumer = clients.reader()
    await consumer.start()
    inputs = [
        Partition(settings.topic(name), p) for name in INPUTS for p in range(settings.partitions)
    ]
    consumer.assign(inputs)
    for tp in inputs:
        consumer.seek(tp, 0)
    producers = [
        clients.producer(transactional_id=f"bare-{os.getpid()}-{p}")
        for p in range(settings.partitions)
    ]
    await asyncio.gather(*(producer.start() for producer in producers))
    out = settings.topic_prefix + "bare"
    seen = 0
    while seen < events:
        pending: list[list[tuple[bytes, bytes]]] = [[] for _ in producers]
        until = time.monotonic() + settings.transaction_interval_ms / 1000
        while time.monotonic() < until and seen < events:
            for tp, records in (await consumer.getmany(timeout_ms=50, max_records=20_000)).items():
                seen += len(records)
                pending[tp.partition] += [
                    (record.key, encode(decode(record.value))) for record in records
                ]
        await asyncio.gather(
            *(
                _bare_commit(producer, out, p, pending[p])
                for p, producer in enumerate(producers)
                if pending[p]
            )
        )
    await asyncio.gather(*(producer.stop() for producer in producers))
    await consumer.stop()


async def _bare_commit(producer, topic, partition, entries):  # type: ignore[no-untyped-def]
    await producer.begin_transaction()
    acks, batch = [], producer.create_batch()
    for key, value in entries:
        if batch.append(timestamp=None, key=key, value=value, headers=[]) is None:
            acks.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(timestamp=None, key=key, value=value, headers=[])
    acks.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*acks)
    await producer.commit_transaction()


async def main(what: str, messages: int) -> None:
    settings = from_environment(os.environ)
    clients = KafkaClients(settings)
    events = messages * EVENTS_PER_MESSAGE
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    async with asyncio.timeout(LIMIT_SECONDS):
        if what == "fill":
            await produce(clients, settings, events_of(messages))
        else:
            await {"joiner": run_joiner, "bare": run_bare}[what](clients, settings, events)
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        encode(
            {
                "cpu_us_per_event": round(cpu_seconds * 1e6 / events, 2),
                "events_per_second": round(events / seconds),
                "peak_megabytes": after.ru_maxrss // 1024,
            }
        ).decode()
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
