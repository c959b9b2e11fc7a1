"""The stage ``join``: sends, statuses and receipts to lifecycles. Sync: it reads only its store.

What a record means is decided in schemas/vonage and processors/join; here it is looked up, kept
until the commit, and handed out as changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from processors.aside import Aside
from processors.join import facts
from processors.join.contribution import Totals, contribution
from processors.join.deadlines import fire, next_deadline
from processors.join.derive import summarise
from processors.join.gaps import Gaps
from processors.join.policy import Policy
from processors.stage import Changes
from processors.store import DeadlineEntry, Entry, Store
from schemas.codec import decode_lifecycle, encode
from schemas.events import Erase, Event, Revoke, Send
from schemas.lifecycle import Lifecycle
from schemas.pulses import decode_pulse
from schemas.topics import LIFECYCLES, PULSES, RECEIPTS, SENDS, STATUSES, partition_of
from schemas.vonage.decode import Unusable, decode
from sendtrace.runtime.kafka import Record

STAGE = "join"
INPUTS = (SENDS, STATUSES, RECEIPTS, PULSES)
GAPS = "@gaps"
# Deadlines looked at in one go: bounds the time between two polls.
DUE_LIMIT = 5_000
# An hour of one edge's pulses: the position must not fall behind retention when nothing happens.
PULSES_PER_COMMIT = 360

decode_gaps = msgspec.json.Decoder(Gaps).decode


class _Due(Struct):
    """What the index needs of a restored lifecycle."""

    due_at_us: int | None = None


decode_due = msgspec.json.Decoder(_Due).decode


class JoinConfig(Struct, frozen=True):
    """What all tasks of a joiner have in common."""

    partitions: int
    policy: Policy
    cache_size: int
    label_set_limit: int
    quarantine_ratio_limit: float


class Joining:
    """Partition ``partition`` of the join: changed lifecycles, totals, and what leaves sideways."""

    name = STAGE
    changelog = LIFECYCLES

    def __init__(self, partition: int, store: Store, config: JoinConfig) -> None:
        self._partition = partition
        self._store = store
        self._config = config
        self._policy = config.policy
        self.totals = Totals(config.label_set_limit)
        self._aside = Aside(partition, self.totals, config.quarantine_ratio_limit)
        # What the store holds, decoded: the least recently used go first.
        self._cache: OrderedDict[str, Lifecycle] = OrderedDict()
        self._dirty: dict[str, Lifecycle] = {}
        self._changed: list[Lifecycle] = []
        self._gaps = Gaps()
        self._pulses = 0  # since the last that was a reason to commit
        # Entries of the index that came up, and where a gap moved them (None: they are done).
        self._passed: dict[tuple[int, bytes], int | None] = {}

    def feed(self, topic: str, records: Sequence[Record]) -> int:
        """Join records into lifecycles, in memory."""
        if topic == PULSES:
            return self._feed_pulses(records)
        new = repeats = 0
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
            before = self._current(message_id)
            after = _union(before, decoded)
            if after is before:
                repeats += 1
                continue
            new += 1
            self._dirty[message_id] = after
        if new:
            self.totals.count(topic, "new", new)
        if repeats:
            self.totals.count(topic, "repeat", repeats)
        return len(records)

    def _feed_pulses(self, records: Sequence[Record]) -> int:
        """Pulses alone are no reason to commit, but for a gap that closed, or once an hour."""
        closed = len(self._gaps.closed)
        for record in records:
            try:
                pulse = decode_pulse(record.value or b"")
            except msgspec.DecodeError:
                self._aside.quarantine(PULSES, record, "not a pulse")
                return 1
            self._gaps = self._gaps.with_pulse(pulse.at_us, self._policy.time_scale)
        self._pulses += len(records)
        if self._pulses < PULSES_PER_COMMIT and len(self._gaps.closed) == closed:
            return 0
        self._pulses = 0
        return 1

    def advance(self, read_until_ms: int) -> int:
        """Fire the deadlines that went by, with the grace, before all inputs' time."""
        now_us = read_until_ms * 1000
        until_us = now_us - self._policy.scaled_us(self._policy.grace_seconds)
        if until_us <= 0:
            return 0
        gaps = self._gaps.until(now_us, self._policy.time_scale)
        fired = 0
        for at_us, key in self._store.due(until_us, DUE_LIMIT):
            if (at_us, key) in self._passed:
                continue
            self._passed[at_us, key] = None  # looked at: its entry goes with the next commit
            lifecycle = self._current(key.decode())
            deadline = next_deadline(lifecycle, self._policy, gaps)
            if deadline is None:
                continue
            if deadline.at_us > until_us:
                self._passed[at_us, key] = deadline.at_us  # a gap moved it
                continue
            self._dirty[lifecycle.message_id] = fire(lifecycle, deadline)
            fired += 1
        # Without a commit the same outdated entries would stand before all others for ever.
        return fired or int(len(self._passed) >= DUE_LIMIT)

    def due_at_us(self, value: bytes) -> int | None:
        return decode_due(value).due_at_us

    def restore_state(self, label: str, value: bytes) -> None:
        if label == GAPS:
            self._gaps = decode_gaps(value)

    def changes(self) -> Changes:
        """Derive each changed lifecycle anew, and move the totals by the difference."""
        self._changed = []
        entries: list[DeadlineEntry] = []
        for (at_us, key), moved_to_us in self._passed.items():
            entries.append((at_us, key, False))
            if moved_to_us is not None:
                entries.append((moved_to_us, key, True))
        for message_id, lifecycle in self._dirty.items():
            before = self._committed(message_id)
            after = replace(lifecycle, summary=summarise(lifecycle, self._policy))
            due = next_deadline(after, self._policy)
            after = replace(after, due_at_us=due.at_us if due else None)
            self.totals.move(contribution(before.summary), contribution(after.summary))
            if before.due_at_us is not None:
                entries.append((before.due_at_us, message_id.encode(), False))
            if after.due_at_us is not None:
                entries.append((after.due_at_us, message_id.encode(), True))
            self._changed.append(after)
        values: list[Entry] = [(c.message_id.encode(), encode(c)) for c in self._changed]
        return Changes(
            values, self._aside.records, deadlines=entries, states=[(GAPS, encode(self._gaps))]
        )

    def settle(self) -> None:
        """The changes are committed."""
        for lifecycle in self._changed:
            self._remember(lifecycle)
        self.totals.settle()
        self._forget_changes()

    def forget(self) -> None:
        """Drop everything that is not in the store."""
        self._cache.clear()
        self.totals.clear()
        self._gaps = Gaps()
        self._forget_changes()

    def _forget_changes(self) -> None:
        self._passed.clear()
        self._changed = []
        self._dirty.clear()
        self._aside.records = []

    def _current(self, message_id: str) -> Lifecycle:
        return self._dirty.get(message_id) or self._committed(message_id)

    def _committed(self, message_id: str) -> Lifecycle:
        """The lifecycle as it stands in Kafka, from the cache or the store."""
        cached = self._cache.get(message_id)
        if cached is not None:
            self._cache.move_to_end(message_id)
            return cached
        value = self._store.value(message_id.encode())
        found = facts.empty(message_id) if value is None else decode_lifecycle(value)
        self._remember(found)
        return found

    def _remember(self, lifecycle: Lifecycle) -> None:
        self._cache[lifecycle.message_id] = lifecycle
        self._cache.move_to_end(lifecycle.message_id)
        if len(self._cache) > self._config.cache_size:
            self._cache.popitem(last=False)


def _union(lifecycle: Lifecycle, decoded: Event | Send | Revoke | Erase) -> Lifecycle:
    match decoded:
        case Event():
            return facts.with_fact(lifecycle, decoded.fact)
        case Send():
            return facts.with_send(lifecycle, decoded)
        case Revoke():
            return facts.with_revoke_requested(lifecycle, decoded.arrived_at_us)
        case Erase():
            return facts.with_erase(lifecycle, decoded.arrived_at_us)
