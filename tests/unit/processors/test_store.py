"""The store on disk: what is damaged is never read as the end, and is dropped in place."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from processors.store import DROPS_LIMIT, Damaged, Drops, Meta, RocksStore
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
    registry = CollectorRegistry()
    store = RocksStore(tmp_path / "0", Drops(registry))
    if place in ("totals", "value"):  # opening reads the other two
        # It is kept, as the loop keeps it: no traceback may hold the database.
        with pytest.raises(Damaged, match="Corruption") as kept:
            _read_all(store)
        store.mend()
        assert kept.value
    assert registry.get_sample_value("sendtrace_state_dropped_total") == 1
    assert (store.meta, list(store.totals()), store.value(b"id-00100")) == (Meta(), [], None)
    store.write([(b"a", b"1")], [], Meta(cluster="c"))
    store.mend()  # what is not damaged stays
    store.close()
    again = RocksStore(tmp_path / "0")
    assert (again.meta, again.value(b"a")) == (Meta(cluster="c"), b"1")
    again.close()


def _read_all(store: RocksStore) -> None:
    list(store.totals())
    for n in range(2000):
        store.value(b"id-%05d" % n)


@pytest.mark.parametrize("is_removed", [False, True])
def test_killed_before_it_is_dropped(tmp_path: Path, is_removed: bool) -> None:
    """Or in the middle of that: what is left is not believed."""
    _damage(tmp_path / "0", "value")
    store = RocksStore(tmp_path / "0")
    with pytest.raises(Damaged):
        _read_all(store)
    store.close()
    if is_removed:
        shutil.rmtree(tmp_path / "0")
    again = RocksStore(tmp_path / "0")
    assert (again.meta, list(again.totals())) == (Meta(), [])
    again.close()
    assert not list(tmp_path.glob("*.damaged"))


def test_dropping_is_not_tried_for_ever(tmp_path: Path) -> None:
    """The last damage ends the process, and the next one begins with an empty store."""
    drops, other = Drops(), tmp_path / "1"
    for _ in range(DROPS_LIMIT):
        _damage(tmp_path / "0", "value")
        store = RocksStore(tmp_path / "0", drops)
        with pytest.raises(Damaged):
            _read_all(store)
        store.mend()
        store.close()
        shutil.rmtree(tmp_path / "0")
    _damage(tmp_path / "0", "value")
    store = RocksStore(tmp_path / "0", drops)
    with pytest.raises(Exception, match="Corruption") as last:
        _read_all(store)
    assert not isinstance(last.value, Damaged)
    store.close()
    _damage(other, "value")  # each has its own bound
    store = RocksStore(other, drops)
    with pytest.raises(Damaged):
        _read_all(store)
    store.close()
    again = RocksStore(tmp_path / "0", Drops())
    assert again.meta == Meta()
    again.close()


def test_damage_at_each_opening_ends_the_process_too(tmp_path: Path) -> None:
    drops = Drops()
    for _ in range(DROPS_LIMIT):
        _damage(tmp_path / "0", "meta")
        RocksStore(tmp_path / "0", drops).close()
        shutil.rmtree(tmp_path / "0")
    _damage(tmp_path / "0", "meta")
    with pytest.raises(Exception, match="Corruption"):
        RocksStore(tmp_path / "0", drops)


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
    store = RocksStore(path)
    with pytest.raises(Exception, match="Corruption"):
        _write_until_merged(store)
    with pytest.raises(Damaged):
        store.write([(b"id-001", b"lost")], [], Meta(cluster="c"))
    store.mend()
    assert (store.meta, store.value(b"id-001")) == (Meta(), None)
    store.write([(b"id-001", b"new")], [], Meta(cluster="c"))
    store.close()
    again = RocksStore(path)
    assert (again.meta.cluster, again.value(b"id-001")) == ("c", b"new")
    again.close()


def _write_until_merged(store: RocksStore) -> None:
    for n in range(200):
        store.write([(b"id-001", b"%d" % n)], [], Meta(cluster="c"))
        store._db.flush()


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
