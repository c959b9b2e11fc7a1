"""The fixtures of stored formats (tests/data/formats): what `tools/formats.py` kept for good."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from schemas.topics import partition_of
from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.settings import Settings

from fakes.cluster import MemoryCluster
from fakes.log import Entry

FOLDERS = sorted((Path(__file__).parent / "data/formats").iterdir())
PREFIX = "test."
CLUSTER = "fixture"

Process = Literal["joiner", "rollup"]


class Kept(Struct, frozen=True):
    """A record as it was written."""

    topic: str  # without prefix
    partition: int
    offset: int
    at_ms: int
    headers: list[tuple[str, str]]
    key: str | None
    value: str | None

    @property
    def raw(self) -> bytes:
        return (self.value or "").encode()

    @property
    def ce_type(self) -> str | None:
        return dict(self.headers).get("ce_type")


_decode = msgspec.json.Decoder(Kept).decode


def records(folder: Path) -> list[Kept]:
    return [_decode(line) for line in (folder / "records.jsonl").read_bytes().splitlines()]


def latest(folder: Path, *topics: str) -> list[Kept]:
    """The last record of each key, as compaction leaves them; no tombstones."""
    found = {(r.topic, r.key): r for r in records(folder) if r.topic in topics}
    return [record for record in found.values() if record.value is not None]


def cluster(folder: Path) -> MemoryCluster:
    """The log as it was, at the offsets that it had; its clock stands still."""
    found = MemoryCluster(Settings(topic_prefix=PREFIX, partitions=1, transaction_interval_ms=1))
    kept = records(folder)
    at_ms = max(record.at_ms for record in kept)
    found.log.now_ms = lambda: at_ms
    for record in kept:
        entries = found.log.log(Partition(PREFIX + record.topic, record.partition))
        while len(entries) < record.offset:
            entries.append(_control(record.at_ms))
        headers = [(name, value.encode()) for name, value in record.headers]
        key = None if record.key is None else record.key.encode()
        value = None if record.value is None else record.value.encode()
        entries.append(Entry(key, value, headers, record.at_ms, None))
    for partition, entries in found.log.entries.items():
        if partition.topic.removeprefix(PREFIX) in {"lifecycles", "rollups", "totals", "parts"}:
            entries.append(_control(at_ms))  # of the last transaction
    assert all(partition_of((r.key or "").encode(), 1) == 0 for r in kept)
    return found


def _control(at_ms: int) -> Entry:
    return Entry(None, None, (), at_ms, None, control=True)


def state(folder: Path, process: Process, into: Path) -> Path:
    """The state directory of a process, unpacked."""
    with tarfile.open(folder / f"state-{process}.tar.gz") as archive:
        archive.extractall(into, filter="data")
    return into / process
