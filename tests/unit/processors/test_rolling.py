"""The stage ``rollup`` as the engine sees it: forgetting, and who may be told what."""

from __future__ import annotations

from aiokafka import ConsumerRecord

from processors.join.policy import Policy
from processors.rolling import Rolling
from processors.stage import StageConfig
from processors.store import Meta
from schemas.codec import decode_rollup, encode
from schemas.lifecycle import Outcome
from schemas.metrics import ROLLUPS, withdrawn
from schemas.rollup import Part
from schemas.topics import PARTS
from schemas.totals import LabelSet, TotalsRecord

from fakes.store import MemoryStore

START_MS = 1_790_000_000_000
DAY_MS = 24 * 3_600_000


class Stage:
    """One partition; what it says is committed."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.rolling = Rolling(0, self.store, StageConfig(1, Policy(), 10, 100, 0.5))
        self.offset = 0
        self.totals: dict[LabelSet, TotalsRecord] = {}

    def feed(self, number: int, outcome: Outcome, at_ms: int) -> None:
        part = Part(
            message_id=f"m{number}", kind="parts", number=number, total=2, outcome=outcome,
            is_open=outcome == "pending",
        )  # fmt: skip
        self.rolling.feed(PARTS, [_record(self.offset, encode(part), at_ms)])
        self.offset += 1
        self.commit()

    def commit(self) -> list[str]:
        """Answers the reasons of the tombstones."""
        changes = self.rolling.changes()
        values: list[tuple[bytes, bytes | None]] = [(key, None) for key in changes.purged]
        values += [(t.key, t.remnant) for t in changes.tombstones]
        values += changes.values
        self.store.write(values, [], Meta(), changes.deadlines)
        self.totals.update(self.rolling.totals.changed())
        self.rolling.settle()
        return [t.reason for t in changes.tombstones]

    def counted(self) -> int:
        """The truth of the counter."""
        name, found = ROLLUPS.name, 0
        for record in self.totals.values():
            found += record.counters.get(name, 0) - record.counters.get(withdrawn(name), 0)
        return found


def _record(offset: int, value: bytes, at_ms: int) -> ConsumerRecord:
    return ConsumerRecord(PARTS, 0, offset, at_ms, 1, b"s", value, None, 1, len(value), ())


def test_a_rollup_is_forgotten_two_weeks_after_its_last_part() -> None:
    stage = Stage()
    stage.feed(1, "delivered", START_MS)
    stage.feed(2, "delivered", START_MS + DAY_MS)
    assert stage.rolling.advance(START_MS + 15 * DAY_MS) == 0
    assert stage.rolling.advance(START_MS + 15 * DAY_MS + 60_001) == 1
    assert stage.commit() == ["expired"]


def test_a_part_that_comes_later_makes_a_fragment_that_counts_nowhere() -> None:
    stage = Stage()
    stage.feed(1, "delivered", START_MS)
    later_ms = START_MS + 15 * DAY_MS
    stage.rolling.advance(later_ms)
    stage.commit()
    stage.feed(2, "delivered", later_ms)
    assert decode_rollup(stage.store.value(b"s") or b"").fragment
    assert stage.counted() == 1  # as before


def test_its_remnant_goes_a_week_later() -> None:
    stage = Stage()
    stage.feed(1, "delivered", START_MS)
    stage.rolling.advance(START_MS + 15 * DAY_MS)
    stage.commit()
    assert stage.rolling.advance(START_MS + 21 * DAY_MS) == 0
    assert stage.rolling.advance(START_MS + 23 * DAY_MS) == 1
    assert stage.commit() == []
    assert stage.store.value(b"s") is None
    assert stage.store.deadlines == set()


def test_an_entry_that_outlived_its_remnant_spares_what_has_just_begun() -> None:
    """A store that was rebuilt has entries of outdated values, too."""
    stage = Stage()
    stage.store.write([], [], Meta(), [(START_MS * 1000, b"s", True)])
    part = Part(message_id="m1", kind="parts", number=1, total=2, outcome="delivered")
    stage.rolling.feed(PARTS, [_record(0, encode(part), START_MS)])
    assert stage.rolling.advance(START_MS + DAY_MS) == 0
    assert stage.commit() == []
    assert stage.store.deadlines == {((START_MS + 14 * DAY_MS) * 1000, b"s")}
