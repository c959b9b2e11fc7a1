"""A topic is read to an end that is known, however long the reader's work takes."""

from __future__ import annotations

import asyncio

import pytest

from schemas.topics import STATUSES
from sendtrace.runtime import reading
from sendtrace.runtime.kafka import partitions_of
from sendtrace.runtime.reading import open_reader, read_until
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import DependencyAway

from engine import Traffic, produce
from fakes.cluster import MemoryCluster


async def test_who_takes_long_over_records_is_not_told_that_none_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "STALL_SECONDS", 0.05)
    cluster = MemoryCluster(Settings(topic_prefix="test.", partitions=3))
    await produce(cluster.clients, cluster.settings, Traffic(30).records)
    partitions = partitions_of(cluster.settings, STATUSES)
    read = 0
    async with open_reader(cluster.clients, partitions) as reader:
        ends = await reader.end_offsets(partitions)
        async for _, records in read_until(reader, ends):
            await asyncio.sleep(0.1)
            read += len(records)
        assert read == sum(ends.values()) > 0
        beyond = {tp: end + 1 for tp, end in ends.items()}
        with pytest.raises(DependencyAway, match="does not give the records"):
            async for _ in read_until(reader, beyond):
                pass
