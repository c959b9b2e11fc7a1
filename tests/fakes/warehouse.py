"""An in-memory warehouse at the port of sinks.postgres: rows, positions, sources.

``away`` makes that many next calls fail before anything happens; ``lost_answers`` makes that many
next writes happen and then fail, as when the connection breaks during the commit. ``refused`` are
senders that it takes no row of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.positions import Gap
from sendtrace.verify.found import Key
from sinks.changes import Changes, Deletion
from sinks.fragments import OF_MESSAGES, OF_ROLLUPS, Rule, merged
from sinks.postgres import (
    AnotherLoaderAhead,
    Position,
    RowsRefused,
    Source,
    SourceChanged,
    WarehouseAway,
)
from sinks.rows import EVENTS, FRAGMENT, INBOUND, MESSAGES, ROLLUPS, Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEY = len(EVENTS.key)


class MemoryWarehouse:
    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.events: dict[tuple[object, ...], Row] = {}
        self.rollups: dict[str, Row] = {}
        self.inbound: dict[tuple[object, object], Row] = {}
        self.offsets: dict[Partition, Position] = {}
        self.sources: dict[str, Source] = {}
        self.away = 0
        self.lost_answers = 0
        self.refused: set[object] = set()

    async def tables(self) -> dict[str, dict[Key, Row]]:
        """All rows by table and key, as `verify` reads those of PostgreSQL."""
        return {
            MESSAGES.name: {(key,): row for key, row in self.rows.items()},
            EVENTS.name: dict(self.events),
            ROLLUPS.name: {(key,): row for key, row in self.rollups.items()},
            INBOUND.name: dict(self.inbound),
        }

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

    async def identify(self, topic_ids: Mapping[str, str]) -> None:
        self._fail_if_away()
        for partition, position in self.offsets.items():
            if position.topic_id is None and partition.topic in topic_ids:
                found = topic_ids[partition.topic]
                self.offsets[partition] = position._replace(topic_id=found)

    async def skip(self, gaps: Sequence[Gap], topic_ids: Mapping[str, str]) -> None:
        self._fail_if_away()
        if any(self.offsets[gap.partition].next != gap.saved for gap in gaps):
            raise AnotherLoaderAhead("not where the gap was found")
        for gap in gaps:
            _, epoch, topic_id, times, records = self.offsets[gap.partition]
            self.offsets[gap.partition] = Position(
                gap.next,
                epoch + gap.starts_anew,
                topic_ids.get(gap.partition.topic, topic_id),
                times + 1,
                records + gap.records,
            )

    async def write(
        self,
        changes: Changes,
        expected: Mapping[Partition, int],
        new: Mapping[Partition, int],
    ) -> None:
        self._fail_if_away()
        for partition in new:
            saved = self.offsets.get(partition)
            if saved is None or saved.next != expected[partition]:
                raise AnotherLoaderAhead(str(partition))
        senders = {row[MESSAGES.names.index("sender")] for row in changes.messages}
        if self.refused & senders:
            raise RowsRefused("refused")
        for partition, offset in new.items():
            self.offsets[partition] = self.offsets[partition]._replace(next=offset)
        _delete(self.rows, changes.deletions)
        _delete(self.rollups, changes.rollup_deletions)
        gone = {deletion.key for deletion in changes.deletions} - set(self.rows)
        self._drop_events(gone)
        assert len({row[0] for row in changes.messages}) == len(changes.messages), "a key twice"
        for row in changes.messages:
            self._write_message(row, [event for event in changes.events if event[0] == row[0]])
        for row in changes.rollups:
            if _is_later(self.rollups, str(row[0]), row[-3], row[-1]):
                _put(OF_ROLLUPS, self.rollups, row)
        for row in changes.inbound:
            known = self.inbound.get((row[0], row[1]))
            if known is None or row[-3] > known[-3]:  # type: ignore[operator]
                self.inbound[row[0], row[1]] = row
        if self.lost_answers:
            self.lost_answers -= 1
            raise WarehouseAway("the answer was lost")

    async def purge(self, before: datetime, limit: int) -> int:
        """By the times of messages and inbound; a rollup has none here."""
        self._fail_if_away()
        sent, first = MESSAGES.names.index("sent_at"), MESSAGES.names.index("first_event_at")
        old = [
            key
            for key, row in self.rows.items()
            if _is_before(row[first] if row[sent] is None else row[sent], before)
        ][:limit]
        arrived = INBOUND.names.index("arrived_at")
        old_inbound = [k for k, row in self.inbound.items() if _is_before(row[arrived], before)]
        for key in old:
            del self.rows[key]
        for pair in old_inbound[:limit]:
            del self.inbound[pair]
        self._drop_events(set(old))
        return len(old) + len(old_inbound[:limit])

    async def close(self) -> None:
        """Nothing to free."""

    def _write_message(self, row: Row, events: Sequence[Row]) -> None:
        message_id = str(row[0])
        if not _is_later(self.rows, message_id, row[-3], row[-1]):
            return
        _put(OF_MESSAGES, self.rows, row)
        if not row[FRAGMENT]:
            self._drop_events({message_id})
        self.events |= {event[:_KEY]: event for event in events}

    def _drop_events(self, message_ids: set[str]) -> None:
        self.events = {key: row for key, row in self.events.items() if key[0] not in message_ids}

    def _fail_if_away(self) -> None:
        if self.away:
            self.away -= 1
            raise WarehouseAway("away")


def _put(rule: Rule, rows: dict[str, Row], row: Row) -> None:
    key = str(row[0])
    known = rows.get(key)
    rows[key] = merged(rule, known, row) if known is not None and row[FRAGMENT] else row


def _delete(rows: dict[str, Row], deletions: Sequence[Deletion]) -> None:
    for key, version in deletions:
        if _is_later(rows, key, version.topic_epoch, version.offset):
            rows.pop(key, None)


def _is_later(rows: Mapping[str, Row], key: str, epoch: object, offset: object) -> bool:
    row = rows.get(key)
    return row is None or (epoch, offset) > (row[-3], row[-1])  # type: ignore[operator]


def _is_before(at_us: object, moment: datetime) -> bool:
    return isinstance(at_us, int) and EPOCH + timedelta(microseconds=at_us) < moment
