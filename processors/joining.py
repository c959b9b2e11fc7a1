"""The stage ``join``: sends, statuses and receipts to lifecycles. Sync: it reads only its store.

What a record means is decided in schemas/vonage and processors/join; here it is looked up, kept
until the commit, and handed out as changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from processors.aside import Aside
from processors.join import facts
from processors.join.contribution import NOTHING, Contribution, Totals, contribution
from processors.join.deadlines import fire, next_deadline
from processors.join.derive import summarise
from processors.join.forgetting import forget_at_us, is_remnant, remnant
from processors.join.gaps import Gaps, decode_gaps
from processors.keyed import Keyed, StoredDue
from processors.rollup.parts import parts_to_tell
from processors.stage import EXPIRED, FORGOTTEN, Changes, StageConfig
from processors.store import Store
from schemas.codec import decode_lifecycle, encode
from schemas.formats import UNREADABLE, NewerFormat, reader
from schemas.lifecycle import FORMAT, Lifecycle
from schemas.pulses import decode_pulse
from schemas.rollup import Part
from schemas.topics import LIFECYCLES, PARTS, PULSES, RECEIPTS, SENDS, STATUSES, partition_of
from schemas.vonage.decode import Unusable, decode
from schemas.vonage.reasons import Reason
from sendtrace.runtime.kafka import Record
from sendtrace.runtime.outgoing import Outgoing

STAGE = "join"
INPUTS = (SENDS, STATUSES, RECEIPTS, PULSES)
GAPS = "@gaps"
# An hour of one edge's pulses: the position must not fall behind retention when nothing happens.
PULSES_PER_COMMIT = 360

decode_due = reader(StoredDue, FORMAT, Lifecycle.__name__)


class Joining:
    """Partition ``partition`` of the join: changed lifecycles, totals, and what leaves sideways."""

    name = STAGE
    changelog = LIFECYCLES

    def __init__(self, partition: int, store: Store, config: StageConfig) -> None:
        self._partition = partition
        self._config = config
        self._policy = config.policy
        self.totals = Totals(config.label_set_limit)
        self._aside = Aside(partition, self.totals, config.quarantine_ratio_limit)
        self._lifecycles = Keyed(store, decode_lifecycle, facts.empty, config.cache_size)
        self._gaps = Gaps()
        self._pulses = 0  # since the last that was a reason to commit

    def feed(self, topic: str, records: Sequence[Record]) -> int:
        """Join records into lifecycles, in memory."""
        if topic == PULSES:
            return self._feed_pulses(records)
        new = repeats = late = 0
        self._aside.seen(len(records))
        for record in records:
            decoded = decode(topic, record.value, record.headers, record.timestamp * 1000)
            if isinstance(decoded, Unusable):
                self._aside.quarantine(topic, record, decoded.reason)
                continue
            message_id = decoded.message_id
            home = partition_of(message_id.encode(), self._config.partitions)
            if home != self._partition:
                self._aside.reroute(topic, record, message_id, home)
                continue
            before = self._lifecycles.current(message_id)
            after = facts.joined(before, decoded)
            if after is before:
                repeats += 1
                continue
            if after.fragment:
                late += 1
            else:
                new += 1
            self._lifecycles.dirty[message_id] = after
        for result, number in (("new", new), ("repeat", repeats), ("after_forgetting", late)):
            if number:
                self.totals.count(topic, result, number)
        return len(records)

    def _feed_pulses(self, records: Sequence[Record]) -> int:
        """Pulses alone are no reason to commit, but for a gap that closed, or once an hour."""
        closed, aside = len(self._gaps.closed), len(self._aside.records)
        for record in records:
            try:
                pulse = decode_pulse(record.value or b"")
            except UNREADABLE:
                self._aside.quarantine(PULSES, record, "not a pulse")
                continue
            except NewerFormat:
                self._aside.quarantine(PULSES, record, Reason.NEWER_FORMAT)
                continue
            # An edge whose clock runs ahead would leave a gap that lasts until its time has come.
            at_us = min(pulse.at_us, record.timestamp * 1000)
            self._gaps = self._gaps.with_pulse(at_us, self._policy.time_scale)
        self._pulses += len(records)
        told = len(self._gaps.closed) > closed or len(self._aside.records) > aside
        if self._pulses < PULSES_PER_COMMIT and not told:
            return 0
        self._pulses = 0
        return 1

    def advance(self, read_until_ms: int) -> int:
        """Fire the deadlines that went by, with the grace, before all inputs' time; and forget."""
        now_us = read_until_ms * 1000
        until_us = now_us - self._policy.scaled_us(self._policy.grace_seconds)
        if until_us <= 0:
            return 0
        gaps = self._gaps.until(now_us, self._policy.time_scale)
        fired, leaving = 0, self._lifecycles.leaving
        for at_us, message_id in self._lifecycles.due(until_us):
            lifecycle = self._lifecycles.current(message_id)
            deadline = next_deadline(lifecycle, self._policy, gaps)
            if deadline is not None and deadline.at_us <= until_us:
                self._lifecycles.dirty[message_id] = fire(lifecycle, deadline)
                moved_to_us = None
                fired += 1
            elif deadline is not None:
                moved_to_us = deadline.at_us  # by a gap
            else:
                moved_to_us = self._forget_if_due(lifecycle, until_us)
            self._lifecycles.passed(at_us, message_id, moved_to_us)
        fired += self._lifecycles.leaving - leaving
        return fired or int(self._lifecycles.is_full)

    def _forget_if_due(self, lifecycle: Lifecycle, until_us: int) -> int | None:
        """Answers when to look at it again, if it is not forgotten now."""
        message_id, values = lifecycle.message_id, self._lifecycles
        if is_remnant(lifecycle):
            if lifecycle.due_at_us is not None and lifecycle.due_at_us > until_us:
                return lifecycle.due_at_us
            values.purge(message_id)
            return None
        at_us = forget_at_us(lifecycle, self._policy)
        if at_us is not None and (at_us > until_us or message_id in values.dirty):
            return at_us
        if at_us is not None:
            reason = FORGOTTEN if lifecycle.erased else EXPIRED
            left = remnant(message_id, lifecycle.erased, until_us, self._policy)
            values.forget(message_id, reason, left)
        return None

    def due_at_us(self, value: bytes) -> int | None:
        return decode_due(value).due_at_us

    def remnant(self, key: bytes, reason: str, at_ms: int) -> bytes:
        return encode(remnant(key.decode(), reason == FORGOTTEN, at_ms * 1000, self._policy))

    def made_anew(self, topic: str, read_until: int) -> None:
        """Nothing of it knows an offset."""

    def restore_state(self, label: str, value: bytes) -> None:
        if label == GAPS:
            self._gaps = decode_gaps(value)

    def changes(self) -> Changes:
        """Derive each changed lifecycle anew, and move the totals by the difference."""
        lifecycles, aside = self._lifecycles, self._aside.records
        values: list[tuple[bytes, bytes]] = []
        for message_id, lifecycle in lifecycles.dirty.items():
            before = lifecycles.before(message_id)
            after = self._derived(lifecycle)
            self.totals.move(_stands_for(before), _stands_for(after))
            aside += [self._part(*told) for told in parts_to_tell(before, after)]
            lifecycles.change(message_id, after)
            values.append((message_id.encode(), encode(after)))
        return Changes(
            values,
            aside,
            tombstones=lifecycles.tombstones(encode),
            purged=lifecycles.purged(),
            deadlines=lifecycles.deadlines(),
            states=[(GAPS, encode(self._gaps))],
        )

    def _derived(self, lifecycle: Lifecycle) -> Lifecycle:
        after = replace(lifecycle, summary=summarise(lifecycle, self._policy))
        due = next_deadline(after, self._policy)
        due_at_us = due.at_us if due else forget_at_us(after, self._policy)
        return replace(after, due_at_us=due_at_us)

    def _part(self, key: str, part: Part) -> Outgoing:
        raw = key.encode()
        home = partition_of(raw, self._config.partitions)
        return Outgoing(PARTS, home, raw, encode(part), [])

    def settle(self) -> None:
        """The changes are committed."""
        self._lifecycles.settle()
        self.totals.settle()
        self._aside.records = []

    def forget(self) -> None:
        """Drop everything that is not in the store."""
        self._lifecycles.clear()
        self.totals.clear()
        self._gaps = Gaps()
        self._aside.records = []


def _stands_for(lifecycle: Lifecycle) -> Contribution:
    """A fragment's message was counted when it was whole."""
    return NOTHING if lifecycle.fragment else contribution(lifecycle.summary)
