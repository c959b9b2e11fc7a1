"""Values by key between two commits: current, before, forgotten, and the index of what is due."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from processors.keyed import Keyed
from processors.store import Meta
from schemas.codec import encode

from fakes.store import MemoryStore


class Value(Struct, frozen=True):
    key: str
    number: int = 0
    due_at_us: int | None = None


def decode(raw: bytes) -> Value:
    return msgspec.json.decode(raw, type=Value)


class Harness:
    """Commits what Keyed says, as the engine does."""

    def __init__(self, limit: int = 10) -> None:
        self.store = MemoryStore()
        self.keyed = Keyed(self.store, decode, Value, limit)

    def commit(self) -> None:
        keyed = self.keyed
        for key, value in keyed.dirty.items():
            keyed.change(key, value)
        values: list[tuple[bytes, bytes | None]] = [(key, None) for key in keyed.purged()]
        values += [(t.key, t.remnant) for t in keyed.tombstones(encode)]
        values += [(key.encode(), encode(value)) for key, value in keyed.dirty.items()]
        self.store.write(values, [], Meta(), keyed.deadlines())
        keyed.settle()

    def put(self, key: str, number: int, due_at_us: int | None = None) -> None:
        self.keyed.dirty[key] = Value(key, number, due_at_us)


def test_current_is_what_was_fed_and_before_what_is_committed() -> None:
    under_test = Harness()
    under_test.put("a", 1)
    under_test.commit()
    under_test.put("a", 2)
    assert under_test.keyed.current("a").number == 2
    assert under_test.keyed.before("a").number == 1
    under_test.keyed.clear()
    assert under_test.keyed.current("a").number == 1


def test_what_is_pushed_out_of_the_cache_is_read_from_the_store() -> None:
    under_test = Harness(limit=1)
    for number, key in enumerate("abc"):
        under_test.put(key, number)
    under_test.commit()
    assert [under_test.keyed.current(key).number for key in "abc"] == [0, 1, 2]


def test_the_index_follows_the_value() -> None:
    under_test = Harness()
    under_test.put("a", 1, due_at_us=10)
    under_test.commit()
    under_test.put("a", 2, due_at_us=20)
    under_test.commit()
    assert under_test.store.deadlines == {(20, b"a")}
    assert list(under_test.keyed.due(15)) == []
    assert list(under_test.keyed.due(20)) == [(20, "a")]


def test_what_came_up_does_not_come_up_again_before_the_commit_and_goes_with_it() -> None:
    under_test = Harness()
    under_test.put("a", 1, due_at_us=10)
    under_test.put("b", 1, due_at_us=11)
    under_test.commit()
    under_test.keyed.passed(10, "a")
    under_test.keyed.passed(11, "b", 30)
    assert list(under_test.keyed.due(20)) == []
    under_test.commit()
    assert under_test.store.deadlines == {(30, b"b")}


def test_an_entry_that_came_up_while_its_value_keeps_its_time_stays() -> None:
    under_test = Harness()
    under_test.put("a", 1, due_at_us=10)
    under_test.commit()
    under_test.put("a", 2, due_at_us=10)
    under_test.keyed.passed(10, "a", 10)
    under_test.commit()
    assert under_test.store.deadlines == {(10, b"a")}


def test_of_two_deadlines_at_one_time_the_second_comes_up_too() -> None:
    """Its time is the value's before and after: the entry that goes was the second's as well."""
    under_test = Harness()
    under_test.put("a", 1, due_at_us=10)
    under_test.put("b", 1, due_at_us=10)
    under_test.commit()
    under_test.keyed.passed(10, "b", 30)  # moved, by a gap
    under_test.commit()
    for at_us, key in ((10, "a"), (30, "b")):
        under_test.put(key, 2, due_at_us=10)
        under_test.keyed.passed(at_us, key)
    under_test.commit()
    assert under_test.store.deadlines == {(10, b"a"), (10, b"b")}


def test_a_forgotten_value_leaves_its_remnant_and_the_remnant_nothing() -> None:
    under_test = Harness()
    under_test.put("a", 1, due_at_us=10)
    under_test.commit()
    under_test.keyed.forget("a", "expired", Value("a", -1, due_at_us=20))
    assert under_test.keyed.current("a").number == -1
    assert under_test.keyed.leaving == 1
    under_test.commit()
    assert under_test.store.deadlines == {(20, b"a")}
    assert under_test.keyed.current("a").number == -1
    under_test.keyed.passed(20, "a")
    under_test.keyed.purge("a")
    under_test.commit()
    assert under_test.store.deadlines == set()
    assert under_test.store.value(b"a") is None
    assert under_test.keyed.current("a").number == 0


def test_what_comes_in_the_same_transaction_goes_on_from_the_remnant() -> None:
    under_test = Harness()
    under_test.put("a", 1, due_at_us=10)
    under_test.commit()
    under_test.keyed.forget("a", "expired", Value("a", -1, due_at_us=20))
    under_test.put("a", under_test.keyed.current("a").number - 1, due_at_us=30)
    assert under_test.keyed.before("a").number == -1
    under_test.commit()
    assert under_test.keyed.current("a").number == -2
    assert decode(under_test.store.value(b"a") or b"").number == -2
    assert under_test.store.deadlines == {(30, b"a")}
