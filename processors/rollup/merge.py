"""The union of parts: of each message its latest version, in any order.

1. The position is the record's offset in topic ``parts``, counted on where that was made anew: one
   key, one partition, one writer per message, so a higher one is a later version. Equal positions
   (never written by us) are told apart by bytes.
2. At most 64 messages are kept, the first by id; ``truncated`` is sticky. The parts of the longest
   text are 16, and a workflow has a handful of items.
3. A workflow's id beats a send's: one failover item makes it a failover.
4. A message that moved to another rollup, or was erased (parts.py), is kept with a mark.

So union is commutative, associative and idempotent. Source: docs/rules.md 3 (Roll-up).
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from schemas.rollup import Item, Part, Rollup

MAX_ITEMS = 64

_encode = msgspec.json.Encoder().encode


def empty(key: str) -> Rollup:
    return Rollup(id=key)


def with_part(rollup: Rollup, part: Part, position: int) -> Rollup:
    """The union with one part. Answers ``rollup`` itself when nothing new is in it."""
    return _with_item(rollup, Item(position, part))


def union(one: Rollup, other: Rollup) -> Rollup:
    result = one
    for item in other.items:
        result = _with_item(result, item)
    if other.truncated and not result.truncated:
        result = replace(result, truncated=True, summary=None)
    return result


def _with_item(rollup: Rollup, item: Item) -> Rollup:
    by_id = {known.part.message_id: known for known in rollup.items}
    known = by_id.get(item.part.message_id)
    if known is not None and _version(item) <= _version(known):
        return rollup
    by_id[item.part.message_id] = item
    items = tuple(sorted(by_id.values(), key=_order))
    truncated = rollup.truncated or len(items) > MAX_ITEMS
    items = items[:MAX_ITEMS]
    if items == rollup.items and truncated == rollup.truncated:
        return rollup
    is_failover = any(
        known.part.kind == "failover"
        for known in items
        if not (known.part.moved or known.part.erased)
    )
    kind = "failover" if is_failover else "parts"
    return replace(rollup, kind=kind, items=items, truncated=truncated, summary=None)


def _version(item: Item) -> tuple[int, bytes]:
    return item.position, _encode(item.part)


def _order(item: Item) -> str:
    return item.part.message_id
