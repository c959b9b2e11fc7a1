"""Three brokers: any one may be killed, frozen or stopped, and what was acknowledged is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from sendtrace.local import doctor
from sendtrace.runtime import topics
from sendtrace.runtime.settings import Settings

from chaos.brokers import Brokers

# Session timeout 3 s, an election of the controller, and the client's look at the new leaders.
ACK_SECONDS = 30.0
TOPIC = "three.statuses"


@pytest.fixture(scope="module")
async def settings(kafka_cluster3: Brokers) -> Settings:
    settings = Settings(
        kafka_bootstrap=kafka_cluster3.bootstrap, topic_prefix="three.", partitions=3
    )
    await topics.apply(settings)
    return settings


@asynccontextmanager
async def producer(settings: Settings, **options: object) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap,
        acks="all",
        # Its batches never expire while a broker is away, as with the edge's producer.
        enable_idempotence=True,
        request_timeout_ms=5_000,
        retry_backoff_ms=100,
        **options,
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def acknowledged(client: AIOKafkaProducer, value: bytes) -> None:
    """One record in every partition, so that every broker's leadership has been taken over."""
    async with asyncio.timeout(ACK_SECONDS):
        for partition in range(3):
            await client.send_and_wait(TOPIC, value, partition=partition)


async def values(settings: Settings, partition: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap)
    await consumer.start()
    try:
        place = TopicPartition(TOPIC, partition)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        found: list[bytes] = []
        while len(found) < end:
            found += [record.value for record in (await consumer.getmany(timeout_ms=500))[place]]
        return found
    finally:
        await consumer.stop()


async def whole(settings: Settings, seconds: float = 90) -> None:
    """Until every partition has all its copies again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(seconds):
            while True:
                names = [n for n in await admin.list_topics() if n.startswith("three.")]
                described = await admin.describe_topics(names)
                partitions = [p for topic in described for p in topic["partitions"]]
                if partitions and all(len(p["isr"]) == 3 for p in partitions):
                    return
                await asyncio.sleep(0.2)
    finally:
        await admin.close()


async def test_everything_has_three_copies_of_which_two_must_acknowledge(
    kafka_cluster3: Brokers, settings: Settings
) -> None:
    assert len({kafka_cluster3.pid(number) for number in kafka_cluster3.numbers}) == 3
    # A transaction makes both internal topics.
    async with producer(settings, transactional_id="t") as client, client.transaction():
        await client.send_offsets_to_transaction({TopicPartition(TOPIC, 0): 0}, "g")
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        for name in (TOPIC, "three.totals", "__consumer_offsets", "__transaction_state"):
            [topic] = await admin.describe_topics([name])
            assert {len(p["replicas"]) for p in topic["partitions"]} == {3}
            [answer] = await admin.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name)]
            )
            config = {entry[0]: entry[1] for entry in answer.resources[0][4]}
            assert config["min.insync.replicas"] == "2"
            assert config["unclean.leader.election.enable"] == "false"
    finally:
        await admin.close()
    for number in kafka_cluster3.numbers:
        resident = psutil.Process(kafka_cluster3.pid(number)).memory_info().rss
        print(f"broker {number}: {resident / 2**20:.0f} MiB resident")
        assert resident < 450 * 2**20


@pytest.mark.parametrize("how", ["killed", "suspended", "stopped"])
async def test_with_one_broker_away_the_next_ack_comes_within_seconds(
    kafka_cluster3: Brokers, settings: Settings, how: str
) -> None:
    number = {"killed": 1, "suspended": 2, "stopped": 3}[how]
    async with producer(settings) as client:
        await acknowledged(client, f"before {how}".encode())
        began = time.monotonic()
        try:
            if how == "killed":
                kafka_cluster3.kill(number)
            elif how == "suspended":
                await kafka_cluster3.suspend(number)
            else:
                await kafka_cluster3.stop(number)
            assert kafka_cluster3.is_alive(number) == (how == "suspended")
            await acknowledged(client, f"while {how}".encode())
            print(f"{how}: acknowledged everywhere after {time.monotonic() - began:.1f} s")
        finally:
            began = time.monotonic()
            kafka_cluster3.resume(number)
            await kafka_cluster3.start_all()
            await whole(settings)
            print(f"{how}: all copies again after {time.monotonic() - began:.1f} s")
    for partition in range(3):
        found = await values(settings, partition)
        assert {f"before {how}".encode(), f"while {how}".encode()} <= set(found)


async def test_with_two_away_nothing_is_acknowledged_and_it_heals(
    kafka_cluster3: Brokers, settings: Settings
) -> None:
    await whole(settings)
    async with producer(settings) as client:
        await acknowledged(client, b"three")
        kafka_cluster3.kill(1)
        kafka_cluster3.kill(2)
        try:
            sent = await client.send(TOPIC, b"one alone", partition=0)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(sent), 4)
        finally:
            await kafka_cluster3.start_all()
        await whole(settings)
        await asyncio.wait_for(sent, ACK_SECONDS)
        await acknowledged(client, b"healed")
    assert b"one alone" in await values(settings, 0)


async def test_the_doctor_counts_the_brokers(kafka_cluster3: Brokers, settings: Settings) -> None:
    await whole(settings)
    assert await topics.brokers(settings) == 3
    kafka_cluster3.kill(3)
    try:
        async with asyncio.timeout(60):
            while await topics.brokers(settings) != 2:
                await asyncio.sleep(0.2)
        local = msgspec.structs.replace(settings, postgres_dsn="postgresql://127.0.0.1:1/x")
        findings = {finding.name: finding for finding in await doctor.examine(local)}
        assert findings["brokers"].state == "wrong"
        assert findings["brokers"].found == "2 of 3 in the cluster"
    finally:
        await kafka_cluster3.start(3)
        await whole(settings)
