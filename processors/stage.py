"""What a stage of the pipeline is to the engine that runs it.

The engine (processors/transaction.py) knows producers, transactions, positions and stores, and
nothing of messages; a stage knows messages, and nothing of Kafka but the records it is fed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from processors.join.contribution import Totals
from processors.join.policy import Policy
from processors.store import DeadlineEntry
from sendtrace.runtime.kafka import Record
from sendtrace.runtime.outgoing import Outgoing

# Why a tombstone was written: the row stays, or it goes.
EXPIRED, FORGOTTEN = "expired", "forgotten"


class StageConfig(Struct, frozen=True):
    """What all tasks of a stage have in common."""

    partitions: int
    policy: Policy
    cache_size: int
    label_set_limit: int
    quarantine_ratio_limit: float


class Tombstone(Struct, frozen=True):
    """A key that is forgotten: null in the changelog, and in the store what is left of it."""

    key: bytes
    reason: str
    remnant: bytes


class Changes(Struct, frozen=True):
    """What a commit has to make durable, totals apart."""

    values: list[tuple[bytes, bytes]]  # for the changelog and the store
    aside: list[Outgoing]
    tombstones: list[Tombstone] = []  # before the values: what was forgotten may begin anew
    purged: list[bytes] = []  # keys of remnants that leave the store
    deadlines: list[DeadlineEntry] = []  # for the store's index
    states: list[tuple[str, bytes]] = []  # small states of the stage's own, kept in totals


class Stage(Protocol):
    """One partition of a stage. Sync; it reads its store, and never writes it."""

    name: str  # in the keys of totals
    changelog: str  # the compacted topic that its values go to, and are restored from
    totals: Totals

    def feed(self, topic: str, records: Sequence[Record]) -> int:
        """Work records in, in memory. ``topic`` is the name without prefix.

        Answers how many of them are a reason to commit.
        """
        ...

    def advance(self, read_until_ms: int) -> int:
        """Time has passed, and all inputs are read up to it: fire what is due. How much fired."""
        ...

    def due_at_us(self, value: bytes) -> int | None:
        """The time that a restored value (or remnant) waits for."""
        ...

    def remnant(self, key: bytes, reason: str, at_ms: int) -> bytes:
        """What stays in the store of a key whose tombstone was written then."""
        ...

    def made_anew(self, topic: str, read_until: int) -> None:
        """An input begins with offset 0 again; of the one before it ``read_until`` were read."""
        ...

    def restore_state(self, label: str, value: bytes) -> None:
        """A state of the stage's own, as it was committed last."""
        ...

    def changes(self) -> Changes:
        """What follows from everything fed since the last ``settle``; moves the totals."""
        ...

    def settle(self) -> None:
        """What ``changes`` answered is committed, and in the store."""
        ...

    def forget(self) -> None:
        """Drop everything that is not in the store."""
        ...
