"""The partition of a key is what every other Kafka client computes."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import partition_of


@given(st.binary(max_size=60), st.integers(1, 100))
def test_partition_of_equals_aiokafkas(key: bytes, partitions: int) -> None:
    everything = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everything, everything)
