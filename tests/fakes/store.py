"""An in-memory store at the port of processors.store: survives the task, as a disk does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from processors.store import Entry, Meta


class MemoryStore:
    def __init__(self) -> None:
        self.meta = Meta()
        self.values: dict[bytes, bytes] = {}
        self.totals_entries: dict[bytes, bytes] = {}

    def value(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def totals(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(self.totals_entries.items()))

    def write(self, values: Iterable[Entry], totals: Iterable[Entry], meta: Meta) -> None:
        for target, entries in ((self.values, values), (self.totals_entries, totals)):
            for key, value in entries:
                if value is None:
                    target.pop(key, None)
                else:
                    target[key] = value
        self.meta = meta

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]

    def close(self) -> None:
        """The data stays, as on a disk."""
