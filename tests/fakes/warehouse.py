"""An in-memory warehouse at the port of sinks.postgres: rows, positions, sources.

``away`` makes that many next calls fail before anything happens; ``lost_answers`` makes that many
next writes happen and then fail, as when the connection breaks during the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sendtrace.runtime.kafka import Partition
from sinks.changes import Deletion
from sinks.postgres import (
    AnotherLoaderAhead,
    Position,
    Source,
    SourceChanged,
    WarehouseAway,
)
from sinks.rows import NAMES, Row

_EPOCH, _OFFSET = NAMES.index("topic_epoch"), NAMES.index("source_offset")


class MemoryWarehouse:
    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.offsets: dict[Partition, Position] = {}
        self.sources: dict[str, Source] = {}
        self.away = 0
        self.lost_answers = 0

    async def remember(self, source: Source) -> None:
        self._fail_if_away()
        known = self.sources.setdefault(source.topic, source)
        if known != source:
            raise SourceChanged(f"{known} is not {source}")

    async def positions(self) -> dict[Partition, Position]:
        self._fail_if_away()
        return dict(self.offsets)

    async def adopt(self, initial: Mapping[Partition, int]) -> None:
        self._fail_if_away()
        for partition, offset in initial.items():
            self.offsets.setdefault(partition, Position(offset, 1))

    async def write(
        self,
        rows: Sequence[Row],
        deletions: Sequence[Deletion],
        expected: Mapping[Partition, int],
        new: Mapping[Partition, int],
    ) -> None:
        self._fail_if_away()
        for partition in new:
            saved = self.offsets.get(partition)
            if saved is None or saved.next != expected[partition]:
                raise AnotherLoaderAhead(str(partition))
        for partition, offset in new.items():
            self.offsets[partition] = self.offsets[partition]._replace(next=offset)
        assert len({row[0] for row in rows}) == len(rows), "a message twice in one batch"
        for row in rows:
            message_id = str(row[0])
            if self._is_later(message_id, (row[_EPOCH], row[_OFFSET])):
                self.rows[message_id] = row
        for message_id, version in deletions:
            if self._is_later(message_id, (version.topic_epoch, version.offset)):
                self.rows.pop(message_id, None)
        if self.lost_answers:
            self.lost_answers -= 1
            raise WarehouseAway("the answer was lost")

    async def close(self) -> None:
        """Nothing to free."""

    def _is_later(self, message_id: str, version: tuple[object, object]) -> bool:
        row = self.rows.get(message_id)
        return row is None or version > (row[_EPOCH], row[_OFFSET])  # type: ignore[operator]

    def _fail_if_away(self) -> None:
        if self.away:
            self.away -= 1
            raise WarehouseAway("away")
