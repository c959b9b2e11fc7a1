"""The store on disk: what is damaged is never read as the end, and is rebuilt at the next start."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from processors.store import Meta, RocksStore
from schemas.totals import label_set, positions_key, totals_key

from fakes.store import MemoryStore

PLACES = ("totals", "positions", "value", "meta")


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "0")
    meta = Meta(cluster="c", next={"lifecycles": 7}, caught_up_at_ms=5)
    store.write([(b"a", b"1"), (b"b", b"2")], [(b"t", b"3")], meta, [(9, b"a", True)])
    store.write([(b"b", None)], [], meta)
    store.close()
    again = RocksStore(tmp_path / "0")
    assert (again.value(b"a"), again.value(b"b")) == (b"1", None)
    assert list(again.totals()) == [(b"t", b"3")]
    assert again.meta == meta
    again.reset()
    assert (again.value(b"a"), list(again.totals()), again.meta) == (None, [], Meta())
    again.close()


def test_deadlines_come_in_order_and_within_the_limit(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "0")
    entries = [(at, b"id", True) for at in (300, 5, 70_000, 256)]
    store.write([(b"v", b"")], [(b"t", b"")], Meta(), entries)
    assert [at for at, _ in store.due(300, 10)] == [5, 256, 300]
    assert store.due(300, 1) == [(5, b"id")]
    store.write([], [], Meta(), [(5, b"id", False)])
    assert [at for at, _ in store.due(300, 10)] == [256, 300]
    store.close()


@pytest.mark.parametrize("place", PLACES)
def test_damage_is_never_read_as_the_end(tmp_path: Path, place: str) -> None:
    _damage(tmp_path / "0", place)
    with pytest.raises(Exception, match="Corruption"):
        _read_all(tmp_path / "0")
    again = RocksStore(tmp_path / "0")  # as a supervisor starts it once more
    assert again.meta == Meta()
    assert list(again.totals()) == []
    again.close()


def _read_all(path: Path) -> None:
    store = RocksStore(path)
    try:
        list(store.totals())
        for n in range(2000):
            store.value(b"id-%05d" % n)
    finally:
        store.close()


def _damage(path: Path, place: str) -> None:
    """A store whose block with this place has some bytes overwritten."""
    rng = random.Random(1)
    marks = {name: rng.randbytes(64) for name in PLACES}
    totals = [(positions_key("join", 0), marks["positions"])]
    for n in range(5000):
        key = totals_key("join", 0, label_set({"a": f"{n:05}"}))
        totals.append((key, marks["totals"] if n == 2500 else rng.randbytes(100)))
    values = [
        (b"id-%05d" % n, marks["value"] if n == 100 else rng.randbytes(400)) for n in range(2000)
    ]
    store = RocksStore(path)
    store.write(values, totals, Meta(cluster=marks["meta"].hex(), next={"totals": 5}))
    store._db.flush()
    store.close()
    [sst] = path.glob("*.sst")
    raw = bytearray(sst.read_bytes())
    mark = marks["meta"].hex()[:40].encode() if place == "meta" else marks[place][:40]
    at = raw.index(mark)
    raw[at : at + 20] = bytes(20)
    sst.write_bytes(raw)


def test_damage_that_merging_finds_is_rebuilt_though_nothing_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "0"
    for _ in range(3):
        store = RocksStore(path)
        store.write([(b"id-%03d" % n, b"old" * 30) for n in range(200)], [], Meta(cluster="c"))
        store._db.flush()
        store.close()
    for table in sorted(path.glob("*.sst"))[:-1]:  # the newest hides them from every reader
        raw = table.read_bytes()
        table.write_bytes(raw[:8] + bytes(byte ^ 0xFF for byte in raw[8:24]) + raw[24:])
    with pytest.raises(Exception, match="Corruption"):
        _write_until_merged(path)
    again = RocksStore(path)  # as a supervisor starts it once more
    assert (again.meta, again.value(b"id-001")) == (Meta(), None)
    again.close()


def _write_until_merged(path: Path) -> None:
    store = RocksStore(path)
    try:
        for n in range(200):
            store.write([(b"id-001", b"%d" % n)], [], Meta(cluster="c"))
            store._db.flush()
    finally:
        store.close()


@pytest.mark.parametrize("what", ["MANIFEST-*", "CURRENT"])
def test_what_cannot_be_opened_is_rebuilt(tmp_path: Path, what: str) -> None:
    store = RocksStore(tmp_path / "0")
    store.write([(b"a", b"1")], [], Meta(cluster="c", next={"lifecycles": 7}))
    store.close()
    for path in (tmp_path / "0").glob(what):
        path.write_bytes(b"\0garbage\n" * 8)
    again = RocksStore(tmp_path / "0")
    assert (again.meta, again.value(b"a")) == (Meta(), None)
    again.close()


def test_a_missing_manifest_is_rebuilt(tmp_path: Path) -> None:
    RocksStore(tmp_path / "0").close()
    for path in (tmp_path / "0").glob("MANIFEST-*"):
        path.unlink()
    RocksStore(tmp_path / "0").close()


def test_a_held_lock_does_not_lose_the_state(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "0")
    store.write([(b"a", b"1")], [], Meta(cluster="c"))
    with pytest.raises(Exception, match="lock"):
        RocksStore(tmp_path / "0")
    assert store.value(b"a") == b"1"
    store.close()


def test_what_is_due_is_found_whatever_was_asked_and_removed_before(tmp_path: Path) -> None:
    """The store skips what it knows to be gone: an older time may come after it was asked for."""
    chance = random.Random(7)
    store, plain = RocksStore(tmp_path / "0"), MemoryStore()
    for _ in range(500):
        until_us, limit = chance.randrange(1_000), chance.choice((1, 3, 1_000))
        expected = plain.due(until_us, limit)
        assert store.due(until_us, limit) == expected
        entries = [(at_us, key, False) for at_us, key in expected if chance.random() < 0.8]
        entries += [
            (chance.randrange(1_000), chance.choice((b"a", b"b", b"")), True)
            for _ in range(chance.choice((0, 0, 1, 3)))
        ]
        for each in (store, plain):
            each.write([], [], Meta(), entries)
        if chance.random() < 0.02:
            store.close()
            store = RocksStore(tmp_path / "0")
    store.close()
