"""What came in against what was sent, and what is written on change alone against itself. Pure.

A request that was answered 200 stands in Kafka, once. One that was cut, refused or in flight when
the sender died may stand there as well: the acknowledgement came too late, and it came again. The
same bytes may be sent more than once on purpose (Vonage repeats itself), so requests are counted by
``ce_id``: at least as many records as answers of 200, at most as many as requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from processors.aside import REROUTED
from schemas.codec import TYPE_ERASE, TYPE_REPLAYED, decode_part, event_id, header
from schemas.topics import (
    INBOUND,
    LIFECYCLES,
    PARTS,
    QUARANTINE,
    RECEIPTS,
    ROLLUPS,
    SENDS,
    STATUSES,
    TOTALS,
)
from schemas.totals import parse_key
from sendtrace.replay.judging import REPLAYED
from sendtrace.simulator.requests import Logged
from sendtrace.verify.found import Difference, Found, Kept

# Where the edge may put a webhook. A send is many records, and has its own comparison.
WEBHOOKS = (STATUSES, RECEIPTS, INBOUND, QUARANTINE)
# Nobody's request: the mark of a replay, and what `sendtrace forget` writes.
NOT_SENT = (TYPE_REPLAYED, TYPE_ERASE)
WRITTEN_ON_CHANGE = (LIFECYCLES, PARTS, ROLLUPS, TOTALS)


def differences(
    requests: Sequence[Logged], found: Found, compared: Counter[str]
) -> Iterator[Difference]:
    """Requests and records by ``ce_id``."""
    webhooks = [logged for logged in requests if "/webhooks" in logged.sent.path]
    sends = [logged for logged in requests if "/webhooks" not in logged.sent.path]
    compared["requests answered 200"] = sum(logged.answer == "200" for logged in requests)
    yield from _as_often(
        Counter(logged.sent.ce_id for logged in webhooks if logged.answer == "200"),
        Counter(logged.sent.ce_id for logged in webhooks),
        Counter(
            header(kept.headers, "ce_id") or "" for topic in WEBHOOKS for kept in _own(found, topic)
        ),
    )
    # A send is a record for each of its messages.
    yield from _as_often(
        Counter(one for logged in sends if logged.answer == "200" for one in logged.sent.ids),
        Counter(one for logged in sends for one in logged.sent.ids),
        # Whoever writes past the edge may give a record any key.
        Counter((kept.key or b"").decode("utf-8", "replace") for kept in _own(found, SENDS)),
    )


def _as_often(
    answered: Counter[str], sent: Counter[str], records: Counter[str]
) -> Iterator[Difference]:
    for key in sorted(sent.keys() | records.keys()):
        least, most, there = answered[key], sent[key], records[key]
        if not least <= there <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            yield Difference("inputs", key, f"it stands there {there} times, not {wanted}")


def changed(requests: Sequence[Logged], found: Found) -> Iterator[Difference]:
    """A webhook's bytes are kept as they came: their hash is the request's id."""
    sent = {logged.sent.ce_id: logged.sent for logged in requests}
    for topic in WEBHOOKS:
        for kept in found.topics[topic]:
            ce_id = header(kept.headers, "ce_id") or ""
            request = sent.get(ce_id)
            if request is None:
                continue  # told by `differences`
            if event_id(request.method, request.path, kept.value or b"") != ce_id:
                yield Difference("inputs", ce_id, f"its bytes in {topic} are not those sent")


def _own(found: Found, topic: str) -> Iterator[Kept]:
    """Without the copies that others made: re-routed or quarantined by a processor, replayed; and
    without what our own commands write."""
    for kept in found.topics[topic]:
        names = {name for name, _ in kept.headers}
        is_copy = names & {REROUTED, REPLAYED} or (topic == QUARANTINE and "st_origin" in names)
        if not is_copy and header(kept.headers, "ce_type") not in NOT_SENT:
            yield kept


def doubled(found: Found) -> Iterator[Difference]:
    """Values that stand twice in a row under one key, where only changes are written."""
    for topic in WRITTEN_ON_CHANGE:
        last: dict[object, bytes | None] = {}
        for kept in found.topics[topic]:
            key = _written_as(topic, kept)
            if key is None:
                continue
            if key in last and last[key] == kept.value:
                name = (kept.key or b"").decode()
                yield Difference(topic, name, f"the same value twice, at offset {kept.offset}")
            last[key] = kept.value


def _written_as(topic: str, kept: Kept) -> object:
    """What the value is of. None: a state of the task, which is written with every commit."""
    if topic == PARTS:
        return kept.key, decode_part(kept.value or b"").message_id
    if topic == TOTALS and not isinstance(parse_key(kept.key or b"").labels, dict):
        return None
    return kept.key
