"""State that is found damaged is dropped and rebuilt, and the process goes on."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from rocksdict import Rdict

from processors import store as state
from processors.store import Drops, RocksStore
from sendtrace.runtime import loop
from sendtrace.runtime.settings import Settings

from engine import ARRIVED_US, Traffic, assert_exact, produce, running_joiner, until_joined
from fakes.cluster import Cluster, MemoryCluster

# Where in a table: its first block has the position, and is read when it is opened; the blocks in
# the middle have lifecycles, and are read when something comes for one of them.
OPENING, JOINING = 0.0, 0.5


def damage(path: Path, place: float) -> None:
    """Invert bytes of each table of a closed store."""
    RocksStore(path).close()  # what is in its log goes into a table
    tables = list(path.glob("*.sst"))
    assert tables
    for table in tables:
        whole = table.read_bytes()
        at = max(8, int(place * len(whole)))
        inverted = bytes(byte ^ 0xFF for byte in whole[at : at + 16])
        table.write_bytes(whole[:at] + inverted + whole[at + 16 :])
    state._block_cache.cache_clear()  # blocks that were read once would hide the damage


@pytest.mark.parametrize("place", [OPENING, JOINING], ids=["opening", "joining"])
async def test_all_damaged_stores_are_rebuilt_in_one_life(
    cluster: Cluster, tmp_path: Path, place: float
) -> None:
    settings, clients = cluster.settings, cluster.clients
    traffic = Traffic(60 * settings.partitions)
    half = len(traffic.records) // 2 + 1  # of one message a part
    paths = [tmp_path / "damaged" / str(p) for p in range(settings.partitions)]
    async with running_joiner(settings, clients, lambda p: RocksStore(paths[p])):
        await produce(clients, settings, traffic.records[:half])
        await until_joined(clients, settings, half)
    for path in paths:
        damage(path, place)
    drops = Drops()
    async with running_joiner(settings, clients, lambda p: RocksStore(paths[p], drops)) as task:
        await produce(clients, settings, traffic.records[half:])
        # Each message is asked for, and nothing of these repeats may count twice.
        found = await until_joined(clients, settings, len(traffic.records))
        assert_exact(found, traffic)
        await produce(clients, settings, traffic.records)
        found = await until_joined(clients, settings, 2 * len(traffic.records))
        assert not task.done()
    assert found.events("new") == 2 * traffic.messages
    assert found.events("repeat") == len(traffic.records) + traffic.messages
    assert dict(drops._of) == dict.fromkeys(paths, 1)


class Planted:
    """RocksDB that finds damage in its n-th call; all else is RocksDB's own."""

    damage = Exception("Corruption: planted")  # rocksdict raises no other kind

    def __init__(self, db: Rdict, at: int) -> None:
        self._db = db
        self._left = at
        self.found_by = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def get(self, key: bytes) -> Any:
        if self._finds("get"):
            raise self.damage
        return self._db.get(key)

    def write(self, batch: Any) -> None:
        if self._finds("write"):
            raise self.damage
        self._db.write(batch)

    def iter(self, options: Any) -> Any:
        """An iterator ends at damage as at the end, and tells it only when it is asked."""
        return DamagedIterator(self.damage) if self._finds("iter") else self._db.iter(options)

    def _finds(self, name: str) -> bool:
        self._left -= 1
        if self._left == 0:
            self.found_by = name
        return self._left == 0


class DamagedIterator:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def seek(self, key: bytes) -> None: ...

    def valid(self) -> bool:
        return False

    def status(self) -> None:
        raise self._error


async def test_damage_at_any_call_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found while it recovers, joins, looks for what is due, or writes what is committed."""
    monkeypatch.setattr(loop, "ADVANCE_SECONDS", 0.0)
    settings = Settings(
        topic_prefix="test.", partitions=1, transaction_interval_ms=1, lifecycle_cache_size=1
    )
    traffic = Traffic(4)
    half = len(traffic.records) // 2
    found_by = []
    for at in itertools.count(1):
        cluster, path, drops = MemoryCluster(settings), tmp_path / str(at), Drops()
        cluster.log.now_ms = lambda: ARRIVED_US // 1000 + 120_000  # nothing is due yet
        clients, store = cluster.clients, RocksStore(path)
        await produce(clients, settings, traffic.records[:half])
        async with running_joiner(settings, clients, lambda _, store=store: store):  # type: ignore[misc]
            await until_joined(clients, settings, half)
        store = RocksStore(path, drops)
        planted = Planted(store._db, at)
        store._db = planted  # type: ignore[assignment]
        await produce(clients, settings, traffic.records[half:])
        async with running_joiner(settings, clients, lambda _, store=store: store):  # type: ignore[misc]
            found = await until_joined(clients, settings, len(traffic.records), seconds=20)
        assert_exact(found, traffic)
        if not planted.found_by:
            break
        found_by.append(planted.found_by)
        assert dict(drops._of) == {path: 1}
        assert store._db is not planted
    assert set(found_by) == {"get", "iter", "write"}, found_by
