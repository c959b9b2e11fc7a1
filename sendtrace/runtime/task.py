"""What the consume loop drives, and how a task tells it what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from sendtrace.runtime.kafka import Partition, Record


class StartOver(Exception):
    """What was fed and not committed is dropped; ``recover`` and seek before going on."""


class Fenced(StartOver):
    """Another owner took over, or our transaction timed out: confirm membership first."""


class PositionLost(Exception):
    """Records that were to be read are gone (exit code 5): the message says which."""


class Task(Protocol):
    """What the loop drives: a set of partitions read and committed together."""

    async def recover(self) -> Mapping[Partition, int]:
        """Drop what is uncommitted, restore, answer the next offset of each partition."""
        ...

    def feed(self, partition: Partition, records: Sequence[Record]) -> None:
        """Take records in, without I/O on the network. Raises StartOver when that failed."""
        ...

    def advance(self, read_until_ms: int) -> None:
        """Everything that the broker took before this time was fed: deadlines may fire.

        Raises StartOver when that failed.
        """
        ...

    def skip(self, partition: Partition, position: int) -> None:
        """The next to read moved on to ``position`` over control records, without a record."""
        ...

    def pending(self) -> int:
        """How many records were fed since the last commit."""
        ...

    async def commit(self) -> None:
        """Make everything fed so far durable. Raises StartOver when that failed."""
        ...

    async def close(self) -> None:
        """Drop what is uncommitted and free everything."""
        ...
