"""The topics: names, keys and settings. The public contract that other services subscribe to.

A topic's partition count is for life: every message-keyed topic has the same number, so that
partition p of the inputs, the outputs and the totals belong to one joiner task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from murmurhash2 import murmurhash2

SENDS = "sends"
STATUSES = "statuses"
RECEIPTS = "receipts"
INBOUND = "inbound"
QUARANTINE = "quarantine"
LIFECYCLES = "lifecycles"
PARTS = "parts"
ROLLUPS = "rollups"
PULSES = "pulses"
TOTALS = "totals"

# The stages, each with its own partitions of `totals`: see totals_partition.
STAGES = ("join", "rollup")

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

# Segments roll small and often where readers start from the beginning: the active segment of a
# compacted topic is never compacted, and with the defaults (1 GB, 7 days) it is the whole topic.
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 1024 * 1024),
    "segment.ms": str(10 * 60 * 1000),
    "min.cleanable.dirty.ratio": "0.1",
    # A tombstone is what is left of a forgotten message: for so long it is known to be no new one.
    "delete.retention.ms": str(7 * DAY_MS),
}


def _kept(days: int) -> dict[str, str]:
    """Settings of an input topic. LogAppendTime: deadlines need the broker's clock."""
    return {
        # The edge takes bodies of up to 1 MiB; headers come on top.
        "max.message.bytes": str(2 * 1024 * 1024),
        "cleanup.policy": "delete",
        "retention.ms": str(days * DAY_MS),
        "message.timestamp.type": "LogAppendTime",
    }


class Topic(Struct, frozen=True):
    """One topic as it must be. ``config`` holds every setting that is not the broker's default."""

    name: str
    key: str
    value: str
    config: Mapping[str, str]
    stages: int = 1  # times the partition count: one partition per input partition and stage

    @property
    def cleanup(self) -> Literal["compact", "delete"]:
        return "compact" if self.config["cleanup.policy"] == "compact" else "delete"


TOPICS: tuple[Topic, ...] = (
    Topic(SENDS, "message id", "one send as captured (JSON)", _kept(7)),
    Topic(STATUSES, "message id", "Messages API status webhook, bytes unchanged", _kept(7)),
    Topic(RECEIPTS, "message id", "SMS or Alerts receipt, bytes unchanged", _kept(7)),
    Topic(INBOUND, "sender", "inbound message, bytes unchanged", _kept(7)),
    Topic(QUARANTINE, "none", "bytes that could not be used, unchanged", _kept(30)),
    Topic(PULSES, "partition", "an edge takes webhooks (JSON), every 10 s", _kept(7)),
    Topic(LIFECYCLES, "message id", "latest full lifecycle (JSON)", COMPACTED),
    Topic(PARTS, "workflow id, else send id", "one message of several (JSON)", _kept(7)),
    Topic(ROLLUPS, "workflow id, else send id", "what became of the whole send (JSON)", COMPACTED),
    Topic(
        TOTALS, "stage, partition, label set", "cumulative counters (JSON)", COMPACTED, len(STAGES)
    ),
)
BY_NAME: Mapping[str, Topic] = {topic.name: topic for topic in TOPICS}


def totals_partition(stage: str, partition: int, partitions: int) -> int:
    """Where a stage keeps the totals of an input partition. Each has one writer.

    With two, the open transaction of one would hide what the other has committed from a
    read_committed reader, its own restarted task among them.
    """
    return STAGES.index(stage) * partitions + partition


_MURMUR2_SEED = 0x9747B28C


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key (murmur2, sign bit cleared).

    aiokafka's own murmur2 is pure Python and costs 12 us for a 36-byte id; this costs 0.2 us
    (docs/aiokafka.md 15). A test holds the two equal.
    """
    return int((murmurhash2(key, _MURMUR2_SEED) & 0x7FFFFFFF) % partitions)
