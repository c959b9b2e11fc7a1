"""An in-memory store at the port of processors.store: survives the task, as a disk does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from processors.store import DeadlineEntry, Entry, Meta


class MemoryStore:
    def __init__(self) -> None:
        self.meta = Meta()
        self.values: dict[bytes, bytes] = {}
        self.totals_entries: dict[bytes, bytes] = {}
        self.deadlines: set[tuple[int, bytes]] = set()

    def value(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def totals(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(self.totals_entries.items()))

    def due(self, until_us: int, limit: int) -> list[tuple[int, bytes]]:
        return sorted(entry for entry in self.deadlines if entry[0] <= until_us)[:limit]

    def write(
        self,
        values: Iterable[Entry],
        totals: Iterable[Entry],
        meta: Meta,
        deadlines: Iterable[DeadlineEntry] = (),
    ) -> None:
        for target, entries in ((self.values, values), (self.totals_entries, totals)):
            for key, value in entries:
                if value is None:
                    target.pop(key, None)
                else:
                    target[key] = value
        for at_us, key, is_added in deadlines:
            (self.deadlines.add if is_added else self.deadlines.discard)((at_us, key))
        self.meta = meta

    def mend(self) -> None:
        """It is never damaged."""

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]

    def close(self) -> None:
        """The data stays, as on a disk."""
