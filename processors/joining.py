"""The stage ``join``: sends, statuses and receipts to lifecycles. Sync: it reads only its store.

What a record means is decided in schemas/vonage and processors/join; here it is looked up, kept
until the commit, and handed out as changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from processors.aside import Aside
from processors.join import facts
from processors.join.contribution import Totals, contribution
from processors.join.derive import summarise
from processors.stage import Changes
from processors.store import Entry, Store
from schemas.codec import decode_lifecycle, encode
from schemas.events import Send
from schemas.lifecycle import Lifecycle
from schemas.topics import LIFECYCLES, RECEIPTS, SENDS, STATUSES, partition_of
from schemas.vonage.decode import Unusable, decode
from sendtrace.runtime.kafka import Record

STAGE = "join"
INPUTS = (SENDS, STATUSES, RECEIPTS)


class JoinConfig(Struct, frozen=True):
    """What all tasks of a joiner have in common."""

    partitions: int
    default_currency: str
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
        self.totals = Totals(config.label_set_limit)
        self._aside = Aside(partition, self.totals, config.quarantine_ratio_limit)
        # What the store holds, decoded: the least recently used go first.
        self._cache: OrderedDict[str, Lifecycle] = OrderedDict()
        self._dirty: dict[str, Lifecycle] = {}
        self._changed: list[Lifecycle] = []

    def feed(self, topic: str, records: Sequence[Record]) -> None:
        """Join records into lifecycles, in memory."""
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
            before = self._dirty.get(message_id) or self._committed(message_id)
            if isinstance(decoded, Send):
                after = facts.with_send(before, decoded)
            else:
                after = facts.with_fact(before, decoded.fact)
            if after is before:
                repeats += 1
                continue
            new += 1
            self._dirty[message_id] = after
        if new:
            self.totals.count(topic, "new", new)
        if repeats:
            self.totals.count(topic, "repeat", repeats)

    def advance(self, read_until_ms: int) -> int:
        return 0

    def due_at_us(self, value: bytes) -> int | None:
        return None

    def restore_state(self, label: str, value: bytes) -> None:
        """None so far."""

    def changes(self) -> Changes:
        """Derive each changed lifecycle anew, and move the totals by the difference."""
        self._changed = []
        for message_id, lifecycle in self._dirty.items():
            summary = summarise(lifecycle, self._config.default_currency)
            before = self._committed(message_id).summary
            self.totals.move(contribution(before), contribution(summary))
            self._changed.append(replace(lifecycle, summary=summary))
        values: list[Entry] = [(c.message_id.encode(), encode(c)) for c in self._changed]
        return Changes(values, self._aside.records)

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
        self._forget_changes()

    def _forget_changes(self) -> None:
        self._changed = []
        self._dirty.clear()
        self._aside.records = []

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
