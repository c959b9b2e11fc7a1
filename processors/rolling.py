"""The stage ``rollup``: parts to rollups, by send or workflow. Sync: it reads only its store.

What follows from the parts is decided in processors/rollup; here they are looked up, kept until the
commit, and handed out as changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from processors.aside import Aside
from processors.join.contribution import Contribution, Totals
from processors.keyed import Keyed, StoredDue
from processors.rollup import merge
from processors.rollup.contribution import NOTHING, contribution
from processors.rollup.derive import summarise
from processors.stage import EXPIRED, Changes, StageConfig
from processors.store import Store
from schemas.codec import decode_part, decode_rollup, encode
from schemas.formats import UNREADABLE, NewerFormat, reader
from schemas.rollup import FORMAT, Rollup
from schemas.topics import PARTS, ROLLUPS, partition_of
from schemas.vonage.reasons import Reason
from sendtrace.runtime.kafka import Record

STAGE = "rollup"
INPUTS = (PARTS,)
BASE = "@base"

decode_base = msgspec.json.Decoder(int).decode
decode_due = reader(StoredDue, FORMAT, Rollup.__name__)


class Rolling:
    """Partition ``partition`` of the rollup."""

    name = STAGE
    changelog = ROLLUPS

    def __init__(self, partition: int, store: Store, config: StageConfig) -> None:
        self._partition = partition
        self._config = config
        self._policy = config.policy
        self.totals = Totals(config.label_set_limit)
        self._aside = Aside(partition, self.totals, config.quarantine_ratio_limit)
        self._rollups = Keyed(store, decode_rollup, merge.empty, config.cache_size)
        self._base = 0  # offsets of the topics that had the name of `parts` before

    def feed(self, topic: str, records: Sequence[Record]) -> int:
        """Take parts into their rollups, in memory."""
        self._aside.seen(len(records))
        for record in records:
            self._feed_one(topic, record)
        return len(records)

    def _feed_one(self, topic: str, record: Record) -> None:
        try:
            part = decode_part(record.value or b"")
            key = (record.key or b"").decode()
        except UNREADABLE:
            self._aside.quarantine(topic, record, "not a part")
            return
        except NewerFormat:
            self._aside.quarantine(topic, record, Reason.NEWER_FORMAT)
            return
        if not key:
            self._aside.quarantine(topic, record, "a part without a key")
            return
        home = partition_of(record.key, self._config.partitions)
        if home != self._partition:
            self._aside.reroute(topic, record, key, home)
            return
        before = self._rollups.current(key)
        after = merge.with_part(before, part, self._base + record.offset)
        if after is before:
            self.totals.count(topic, "repeat")
            return
        self.totals.count(topic, "after_forgetting" if after.fragment else "new")
        self._rollups.dirty[key] = replace(
            after, touched_at_us=max(after.touched_at_us or 0, record.timestamp * 1000)
        )

    def advance(self, read_until_ms: int) -> int:
        """Forget the rollups whose time has come."""
        until_us = read_until_ms * 1000 - self._policy.scaled_us(self._policy.grace_seconds)
        if until_us <= 0:
            return 0
        leaving = self._rollups.leaving
        for at_us, key in self._rollups.due(until_us):
            rollup = self._rollups.current(key)
            # An entry may outlive a purged remnant: what is dirty may have been due at no time yet.
            if key in self._rollups.dirty or (rollup.due_at_us or 0) > until_us:
                self._rollups.passed(at_us, key, rollup.due_at_us)
                continue
            self._rollups.passed(at_us, key)
            if rollup.items:
                self._rollups.forget(key, EXPIRED, self._remnant(key, until_us))
            else:
                self._rollups.purge(key)
        return self._rollups.leaving - leaving or int(self._rollups.is_full)

    def due_at_us(self, value: bytes) -> int | None:
        return decode_due(value).due_at_us

    def remnant(self, key: bytes, reason: str, at_ms: int) -> bytes:
        return encode(self._remnant(key.decode(), at_ms * 1000))

    def _remnant(self, key: str, at_us: int) -> Rollup:
        due_at_us = at_us + self._policy.scaled_us(self._policy.remnant_seconds)
        return Rollup(id=key, fragment=True, due_at_us=due_at_us)

    def made_anew(self, topic: str, read_until: int) -> None:
        """What comes now is later than all that is known, whatever its offset."""
        self._base += read_until

    def restore_state(self, label: str, value: bytes) -> None:
        if label == BASE:
            self._base = decode_base(value)

    def changes(self) -> Changes:
        """Derive each changed rollup anew, and move the totals by the difference."""
        values: list[tuple[bytes, bytes]] = []
        for key, rollup in self._rollups.dirty.items():
            before = self._rollups.before(key)
            after = self._derived(rollup)
            self.totals.move(_stands_for(before), _stands_for(after))
            self._rollups.change(key, after)
            values.append((key.encode(), encode(after)))
        return Changes(
            values,
            self._aside.records,
            tombstones=self._rollups.tombstones(encode),
            purged=self._rollups.purged(),
            deadlines=self._rollups.deadlines(),
            states=[(BASE, encode(self._base))] if self._base else [],
        )

    def _derived(self, rollup: Rollup) -> Rollup:
        forget_us = self._policy.scaled_us(self._policy.forget_rollup_seconds)
        assert rollup.touched_at_us is not None  # a part was fed
        return replace(
            rollup, summary=summarise(rollup), due_at_us=rollup.touched_at_us + forget_us
        )

    def settle(self) -> None:
        """The changes are committed."""
        self._rollups.settle()
        self.totals.settle()
        self._aside.records = []

    def forget(self) -> None:
        """Drop everything that is not in the store."""
        self._rollups.clear()
        self.totals.clear()
        self._base = 0
        self._aside.records = []


def _stands_for(rollup: Rollup) -> Contribution:
    """A fragment's send was counted when it was whole."""
    return NOTHING if rollup.fragment else contribution(rollup)
