"""What a stage of the pipeline is to the engine that runs it.

The engine (processors/transaction.py) knows producers, transactions, positions and stores, and
nothing of messages; a stage knows messages, and nothing of Kafka but the records it is fed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from processors.aside import Outgoing
from processors.join.contribution import Totals
from sendtrace.runtime.kafka import Record


class Changes(Struct, frozen=True):
    """What a commit has to make durable, totals apart."""

    values: list[tuple[bytes, bytes]]  # for the changelog and the store
    aside: list[Outgoing]


class Stage(Protocol):
    """One partition of a stage. Sync; it reads its store, and never writes it."""

    name: str  # in the keys of totals
    changelog: str  # the compacted topic that its values go to, and are restored from
    totals: Totals

    def feed(self, topic: str, records: Sequence[Record]) -> None:
        """Work records in, in memory. ``topic`` is the name without prefix."""
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
