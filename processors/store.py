"""State on disk: one RocksDB per task, a copy of what is committed in Kafka.

It is written only after the commit, in one WriteBatch with the changelog positions, so it is never
ahead of Kafka, and a restart reads only what it missed. Whatever is wrong with it, it is dropped
and rebuilt from the topics. Damage is found by whoever reads or writes next: it raises Damaged, and
the task starts over with an empty store.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Metric
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from sendtrace.runtime.task import StartOver

FORMAT = 1
# A store that is damaged once more is not mended by dropping it: its disk, or RocksDB, is at fault.
DROPS_LIMIT = 2
_META = b"m"
_VALUE = b"v"
_TOTALS = b"t"
_DEADLINE = b"d"  # then eight bytes of time, most significant first: an ordered index

log = logging.getLogger(__name__)


class Damaged(StartOver):
    """What is on disk cannot be read. ``mend`` drops it, and what is in Kafka is read anew."""


class Meta(Struct):
    """How far the store follows the changelog, and when it last equalled its end."""

    v: int = FORMAT
    cluster: str = ""
    next: dict[str, int] = msgspec.field(default_factory=dict)
    caught_up_at_ms: int = 0


_encode_meta = msgspec.json.Encoder().encode
_decode_meta = msgspec.json.Decoder(Meta).decode

Entry = tuple[bytes, bytes | None]  # None removes the key
DeadlineEntry = tuple[int, bytes, bool]  # time in us, key, and whether it is added (else removed)


class Store(Protocol):
    """What a task needs of its state. Writes are atomic. Each call may raise Damaged."""

    meta: Meta

    def value(self, key: bytes) -> bytes | None: ...
    def totals(self) -> Iterator[tuple[bytes, bytes]]: ...

    def due(self, until_us: int, limit: int) -> list[tuple[int, bytes]]:
        """The earliest deadlines up to a time, with the keys that they are of."""
        ...

    def write(
        self,
        values: Iterable[Entry],
        totals: Iterable[Entry],
        meta: Meta,
        deadlines: Iterable[DeadlineEntry] = (),
    ) -> None: ...

    def mend(self) -> None:
        """Drop everything, if it was found damaged."""
        ...

    def reset(self) -> None: ...
    def close(self) -> None: ...


class Drops:
    """How often the stores of a process were dropped because they were damaged."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._of: Counter[Path] = Counter()
        self._metric = Metric(
            "sendtrace_state_dropped",
            "Stores on disk that were found damaged, and dropped",
            registry=registry,
        )

    def count(self, path: Path, error: Exception) -> None:
        """One more. Raises the error itself at the bound: it ends the process."""
        self._of[path] += 1
        if self._of[path] > DROPS_LIMIT:
            raise error
        self._metric.inc()
        log.warning("state is damaged, and rebuilt from the topics: %s: %s", path, error)


class RocksStore:
    """A store in a directory of its own. One process at a time (RocksDB holds a lock).

    What is to be dropped is marked first, and what is marked is dropped before it is opened: killed
    in between, it is not believed. ``drops`` is shared by all stores of a process.
    """

    def __init__(self, path: Path, drops: Drops | None = None) -> None:
        self._path = path
        self._drops = drops or Drops()
        self._mark = path.parent / f"{path.name}.damaged"
        self._earliest_us = 0  # no deadline is before
        self._db, self.meta = self._open()
        if self.meta.v != FORMAT:
            self.reset()

    def value(self, key: bytes) -> bytes | None:
        try:  # and not `with`: this is the hot path
            found: bytes | None = self._db.get(_VALUE + key)
        except Exception as error:
            self._judge(error)
            raise
        return found

    def totals(self) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._from(_TOTALS):
            yield key[1:], value

    def due(self, until_us: int, limit: int) -> list[tuple[int, bytes]]:
        """Between two bounds: removed entries, most of them still to come, cost as much as others
        until RocksDB drops them, and a delivered message leaves two."""
        if until_us < self._earliest_us:
            return []
        found: list[tuple[int, bytes]] = []
        begin, end = _deadline(self._earliest_us), _deadline(until_us + 1)
        for key, _ in self._from(_DEADLINE, begin, end):
            if len(found) >= limit:
                break
            found.append((int.from_bytes(key[1:9], "big"), key[9:]))
        self._earliest_us = found[0][0] if found else until_us + 1
        return found

    def _from(
        self, prefix: bytes, begin: bytes | None = None, end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """All entries with a prefix, in order. A damaged block is an error, not the end."""
        options = ReadOptions()
        if end is not None:
            options.set_iterate_upper_bound(end)
        entries = self._db.iter(options)
        try:
            entries.seek(begin or prefix)
            while entries.valid():
                key = entries.key()
                assert isinstance(key, bytes)
                if not key.startswith(prefix):
                    return
                yield key, entries.value()
                entries.next()
            entries.status()  # an iterator ends at a damaged block as it does at the end
        except Exception as error:
            self._judge(error)
            raise
        finally:
            del entries  # it holds the database open, and a kept traceback would hold it

    def write(
        self,
        values: Iterable[Entry],
        totals: Iterable[Entry],
        meta: Meta,
        deadlines: Iterable[DeadlineEntry] = (),
    ) -> None:
        batch = WriteBatch(raw_mode=True)
        for prefix, entries in ((_VALUE, values), (_TOTALS, totals)):
            for key, value in entries:
                if value is None:
                    batch.delete(prefix + key)
                else:
                    batch.put(prefix + key, value)
        for at_us, key, is_added in deadlines:
            entry = _deadline(at_us) + key
            if is_added:
                batch.put(entry, b"")
                self._earliest_us = min(self._earliest_us, at_us)
            else:
                batch.delete(entry)
        batch.put(_META, _encode_meta(meta))
        try:
            self._db.write(batch)
        except Exception as error:
            # What merging in the background found damaged is told to whoever writes next.
            self._judge(error)
            raise
        self.meta = meta

    def mend(self) -> None:
        if self._mark.exists():
            self.reset()

    def reset(self) -> None:
        """Drop everything. What is in Kafka is read anew."""
        self._mark.touch()
        self.close()
        self._db, self.meta = self._open()
        self._earliest_us = 0

    def close(self) -> None:
        """Damage that is found now is dropped when it is opened again."""
        try:
            self._db.close()
        except Exception as error:
            if not _is_damage(error):
                raise
            self._mark.touch()

    def _judge(self, error: Exception) -> None:
        """Raises Damaged where it is damage, as long as dropping may help.

        Dropped it is later: an open iterator may hold the database.
        """
        if _is_damage(error):
            self._mark.touch()
            self._drops.count(self._path, error)
            raise Damaged(str(error)) from error

    def _open(self) -> tuple[Rdict, Meta]:
        """Opening reads little: most damage is found later."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._mark.exists():
            self._remove()
        try:
            return self._opened()
        except Exception as error:
            # rocksdict raises bare Exception for everything. Only damage is mended by dropping:
            # a held lock or a full disk must not lose the state.
            if not _is_damage(error) and not str(error).startswith("IO error: No such file"):
                raise
            self._drops.count(self._path, error)
        self._mark.touch()
        self._remove()
        return self._opened()

    def _opened(self) -> tuple[Rdict, Meta]:
        db = Rdict(str(self._path), _options(), access_type=AccessType.read_write())
        try:
            return db, _meta_of(db.get(_META))
        except BaseException:
            db.close()
            raise

    def _remove(self) -> None:
        if self._path.exists():
            shutil.rmtree(self._path)
        self._mark.unlink()


def _is_damage(error: Exception) -> bool:
    return str(error).startswith("Corruption")


def _meta_of(raw: bytes | None) -> Meta:
    if raw is None:
        return Meta()
    try:
        return _decode_meta(raw)
    except msgspec.DecodeError:
        return Meta(v=-1)


def _deadline(at_us: int) -> bytes:
    return _DEADLINE + at_us.to_bytes(8, "big")


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(DBCompressionType.lz4())
    # Twelve stores share a process, and have two each: half as much memory as with 8 MiB, and no
    # more CPU. With 2 MiB merging costs a fifth more.
    options.set_write_buffer_size(4 * 1_048_576)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    options.set_max_open_files(64)
    tables = BlockBasedOptions()
    tables.set_block_cache(_block_cache())
    # A message's first event asks for a key that is not there: answered without reading a block.
    tables.set_bloom_filter(10, block_based=False)
    options.set_block_based_table_factory(tables)
    return options


@cache
def _block_cache() -> Cache:
    """One for all stores of the process: each has one of 32 MiB of its own otherwise."""
    return Cache(32 * 1_048_576)
