"""What people and retention do to topics: delete records, make them anew, add partitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from sendtrace.runtime import topics
from sendtrace.runtime.settings import Settings


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def delete_until(settings: Settings, partition: TopicPartition, offset: int) -> None:
    """What retention does; -1 is everything."""
    async with _admin(settings) as admin:
        await admin.delete_records({partition: RecordsToDelete(before_offset=offset)})


async def remake(settings: Settings, *names: str) -> None:
    """Delete topics (names without prefix), and make them anew as they must be."""
    wanted = {settings.topic(name) for name in names}
    async with _admin(settings) as admin:
        await admin.delete_topics(sorted(wanted))
        async with asyncio.timeout(20):
            while wanted & set(await admin.list_topics()):
                await asyncio.sleep(0.05)
    await topics.apply(settings)


async def add_partition(settings: Settings, *names: str) -> None:
    """One more for each of the topics (names without prefix)."""
    async with _admin(settings) as admin:
        described = await admin.describe_topics([settings.topic(name) for name in names])
        response = await admin.create_partitions(
            {each["topic"]: NewPartitions(len(each["partitions"]) + 1) for each in described}
        )
        assert all(code == 0 for _, code, _ in response.topic_errors), response
