"""The values of a task by key: decoded, cached, changed, forgotten, and when each is due.

Reads its store, and never writes it: ``tombstones``, ``purged`` and ``deadlines`` say what a commit
has to write besides the changed values. Between two commits a value stands in ``dirty``, and what
was forgotten is replaced by its remnant.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from processors.stage import Tombstone
from processors.store import DeadlineEntry, Store

# Due keys looked at in one go: bounds the time between two polls.
DUE_LIMIT = 5_000


class Due(Protocol):
    """A value that may have to be looked at again at some time, without a record."""

    @property
    def due_at_us(self) -> int | None: ...


class StoredDue(Struct):
    """What the index needs of a value that is restored."""

    v: int = 1
    due_at_us: int | None = None


V = TypeVar("V", bound=Due)


class Keyed(Generic[V]):
    """``limit`` values are kept decoded; the least recently used go first."""

    def __init__(
        self,
        store: Store,
        decode: Callable[[bytes], V],
        empty: Callable[[str], V],
        limit: int,
    ) -> None:
        self._store = store
        self._decode = decode
        self._empty = empty
        self._limit = limit
        self._cache: OrderedDict[str, V] = OrderedDict()
        self.dirty: dict[str, V] = {}
        self._changed: dict[str, V] = {}
        self._forgotten: dict[str, tuple[str, V]] = {}
        # Entries of the index that came up, and where they move (None: they are done).
        self._passed: dict[tuple[int, bytes], int | None] = {}
        self._purged: list[str] = []

    def current(self, key: str) -> V:
        """The value with everything fed so far."""
        return self.dirty.get(key) or self.before(key)

    def before(self, key: str) -> V:
        """The value that ``dirty`` goes on from: what is committed, or what forgetting left."""
        if key in self._forgotten:
            return self._forgotten[key][1]
        return self._committed(key)

    def forget(self, key: str, reason: str, remnant: V) -> None:
        """Leave only ``remnant`` of a value that nothing was fed to since the last commit."""
        assert key not in self.dirty
        self._forgotten[key] = reason, remnant

    def purge(self, key: str) -> None:
        """Leave nothing of it, not even a remnant."""
        self._purged.append(key)

    @property
    def leaving(self) -> int:
        """How many keys are forgotten or purged with the next commit."""
        return len(self._forgotten) + len(self._purged)

    # -- the index of what is due --------------------------------------------------------------

    def due(self, until_us: int) -> Iterator[tuple[int, str]]:
        """What was due by then and has not come up since the last commit, earliest first."""
        for at_us, key in self._store.due(until_us, DUE_LIMIT):
            if (at_us, key) not in self._passed:
                yield at_us, key.decode()

    def passed(self, at_us: int, key: str, moved_to_us: int | None = None) -> None:
        """An entry was looked at: it goes, or moves, with the next commit."""
        self._passed[at_us, key.encode()] = moved_to_us

    @property
    def is_full(self) -> bool:
        """Without a commit the same entries would stand before all others for ever."""
        return len(self._passed) >= DUE_LIMIT

    # -- the commit ----------------------------------------------------------------------------

    def change(self, key: str, value: V) -> None:
        """What a dirty value becomes with this commit."""
        self._changed[key] = value

    def tombstones(self, encode: Callable[[V], bytes]) -> list[Tombstone]:
        """What was forgotten. Of what was purged nobody is told: it was forgotten before."""
        return [
            Tombstone(key.encode(), reason, encode(remnant))
            for key, (reason, remnant) in self._forgotten.items()
        ]

    def purged(self) -> list[bytes]:
        return [key.encode() for key in self._purged]

    def deadlines(self) -> list[DeadlineEntry]:
        """How the index changes, in the order in which it must be written."""
        entries: list[DeadlineEntry] = []
        done: set[bytes] = set()
        for (at_us, key), moved_to_us in self._passed.items():
            entries.append((at_us, key, False))
            if moved_to_us is None:
                done.add(key)
            else:
                entries.append((moved_to_us, key, True))
        for name, (_, remnant) in self._forgotten.items():
            _move(entries, name.encode(), self._committed(name), remnant)
        for name, value in self._changed.items():
            key, before = name.encode(), self.before(name)
            _move(entries, key, before, value)
            # Of two deadlines at one time the first went by: its entry was the second's, too.
            if key in done and value.due_at_us is not None:
                entries.append((value.due_at_us, key, True))
        return entries

    def settle(self) -> None:
        """The changes are committed."""
        for name in self._purged:
            self._cache.pop(name, None)
        for name, (_, remnant) in self._forgotten.items():
            self._remember(name, remnant)
        for name, value in self._changed.items():
            self._remember(name, value)
        self._drop_changes()

    def clear(self) -> None:
        """Drop everything that is not in the store."""
        self._cache.clear()
        self._drop_changes()

    def _drop_changes(self) -> None:
        self.dirty.clear()
        self._changed.clear()
        self._forgotten.clear()
        self._passed.clear()
        self._purged.clear()

    def _committed(self, key: str) -> V:
        """The value as it stands in Kafka, from the cache or the store."""
        cached = self._cache.get(key)
        if cached is not None:
            self._cache.move_to_end(key)
            return cached
        stored = self._store.value(key.encode())
        found = self._empty(key) if stored is None else self._decode(stored)
        self._remember(key, found)
        return found

    def _remember(self, key: str, value: V) -> None:
        self._cache[key] = value
        self._cache.move_to_end(key)
        if len(self._cache) > self._limit:
            self._cache.popitem(last=False)


def _move(entries: list[DeadlineEntry], key: bytes, before: Due, after: Due) -> None:
    if before.due_at_us == after.due_at_us:
        return
    if before.due_at_us is not None:
        entries.append((before.due_at_us, key, False))
    if after.due_at_us is not None:
        entries.append((after.due_at_us, key, True))
