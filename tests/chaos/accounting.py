"""What was answered, what is in Kafka, and what was made of it: counted without `verify`. Pure.

`verify` holds everything against everything; these few sums are worked out apart from it, so that
what the proof says first does not rest on one program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from processors.aside import REROUTED
from schemas.codec import decode_lifecycle, decode_totals, header
from schemas.metrics import EVENTS
from schemas.topics import (
    INBOUND,
    LIFECYCLES,
    PARTS,
    QUARANTINE,
    RECEIPTS,
    SENDS,
    STATUSES,
    TOTALS,
)
from schemas.totals import parse_key
from sendtrace.simulator.requests import Logged
from sendtrace.verify.found import Kept, last_of

INPUTS = (SENDS, STATUSES, RECEIPTS, INBOUND, QUARANTINE)
# What the stages read, and count.
COUNTED = (SENDS, STATUSES, RECEIPTS, PARTS)


@dataclass(frozen=True)
class Sums:
    """``lost``: answered 200 and not in Kafka. ``unasked``: in Kafka, and no request of the log
    that may have put it there. ``doubled``: facts that stand twice in a lifecycle. ``skipped`` and
    ``recounted``: how many input records the stages counted too few, and too many; a fact that is
    taken twice changes no lifecycle, so this alone tells. ``aside``: records that a processor put
    aside (quarantine, or another partition); ``astray``: what was put aside and should not, was
    not and should, or was twice."""

    requests: int
    answered: int
    records: int
    lost: tuple[str, ...]
    unasked: tuple[str, ...]
    doubled: tuple[str, ...]
    aside: int = 0
    astray: tuple[str, ...] = ()
    skipped: int = 0
    recounted: int = 0

    @property
    def unclean(self) -> set[str]:
        """The names of those that should be nothing and are not."""
        names = ("lost", "unasked", "doubled", "astray", "skipped", "recounted")
        return {name for name in names if getattr(self, name)}

    @property
    def is_clean(self) -> bool:
        return not self.unclean


def sums(
    requests: Sequence[Logged], topics: Mapping[str, Sequence[Kept]], strays: Collection[str] = ()
) -> Sums:
    """A send stands for each of its messages; a webhook for its ``ce_id``. ``strays`` are names of
    what must be put aside: nothing else may be."""
    answered: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for logged in requests:
        for name in _names(logged):
            asked[name] += 1
            if logged.answer == "200":
                answered[name] += 1
    there = Counter(name for name, _ in _records(topics))
    copies = Counter(_copies(topics))
    misplaced = {origin for name, origin in _records(topics) if name in strays}
    kept, counted = _kept(topics), _counted(topics[TOTALS])
    return Sums(
        requests=len(requests),
        answered=sum(logged.answer == "200" for logged in requests),
        records=there.total(),
        # As often as it was answered: the same webhook may come twice, and each 200 is a promise.
        lost=tuple(sorted((answered - there).elements())),
        # What was asked for twice may be there twice: the first answer may have been cut.
        unasked=tuple(sorted((there - asked).elements())),
        doubled=tuple(_doubled(topics[LIFECYCLES])),
        aside=copies.total(),
        astray=tuple(
            sorted(
                origin
                for origin in misplaced | copies.keys()
                if copies[origin] != (origin in misplaced)
            )
        ),
        # Partition by partition, or one too many would make up for one too few.
        skipped=(kept - counted).total(),
        recounted=(counted - kept).total(),
    )


def _names(logged: Logged) -> tuple[str, ...]:
    return logged.sent.ids if logged.sent.path == "/sends" else (logged.sent.ce_id,)


def _records(topics: Mapping[str, Sequence[Kept]]) -> Iterator[tuple[str, str]]:
    """What came from outside, each with its name and where it stands."""
    for topic in INPUTS:
        for kept in topics[topic]:
            if _origin(topic, kept) is None:
                by_id = header(kept.headers, "ce_id") or ""
                by_key = (kept.key or b"").decode("utf-8", "replace")
                name = by_key if topic == SENDS else by_id
                yield name, f"{topic}-{kept.partition}-{kept.offset}"


def _copies(topics: Mapping[str, Sequence[Kept]]) -> Iterator[str]:
    """Where what was put aside came from."""
    for topic in INPUTS:
        for kept in topics[topic]:
            origin = _origin(topic, kept)
            if origin is not None:
                yield origin


def _origin(topic: str, kept: Kept) -> str | None:
    return header(kept.headers, "st_origin" if topic == QUARANTINE else REROUTED)


def _kept(topics: Mapping[str, Sequence[Kept]]) -> Counter[tuple[str, int]]:
    """How many records each input partition of a stage has."""
    return Counter((topic, kept.partition) for topic in COUNTED for kept in topics[topic])


def _counted(totals: Sequence[Kept]) -> Counter[tuple[str, int]]:
    """How many the stages say that they took from it."""
    counted: Counter[tuple[str, int]] = Counter()
    for raw, kept in last_of(totals).items():
        key = parse_key(raw.encode())
        if isinstance(key.labels, dict) and kept.value is not None:
            events = decode_totals(kept.value).counters.get(EVENTS.name, 0)
            counted[key.labels.get("input", ""), key.partition] += events
    return +counted


def _doubled(lifecycles: Sequence[Kept]) -> Iterator[str]:
    for key, kept in last_of(lifecycles).items():
        if kept.value is not None:
            facts = decode_lifecycle(kept.value).facts
            if len({(f.kind, f.status, f.code, f.segment, f.account) for f in facts}) != len(facts):
                yield key
