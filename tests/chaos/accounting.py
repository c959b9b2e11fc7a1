"""What was answered, what is in Kafka, and what was made of it: counted without `verify`. Pure.

`verify` holds everything against everything; these few sums are worked out apart from it, so that
what the proof says first does not rest on one program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.codec import decode_lifecycle, header
from schemas.topics import INBOUND, LIFECYCLES, QUARANTINE, RECEIPTS, SENDS, STATUSES
from sendtrace.simulator.requests import Logged
from sendtrace.verify.found import Kept, last_of


@dataclass(frozen=True)
class Sums:
    """``lost``: answered 200 and not in Kafka. ``unasked``: in Kafka, and no request of the log
    that may have put it there. ``doubled``: facts that stand twice in a lifecycle."""

    requests: int
    answered: int
    records: int
    lost: tuple[str, ...]
    unasked: tuple[str, ...]
    doubled: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.unasked or self.doubled)


def sums(requests: Sequence[Logged], topics: Mapping[str, Sequence[Kept]]) -> Sums:
    """A send stands for each of its messages; a webhook for its ``ce_id``."""
    answered: set[str] = set()
    asked: Counter[str] = Counter()
    for logged in requests:
        for name in _names(logged):
            asked[name] += 1
            if logged.answer == "200":
                answered.add(name)
    there = Counter(_records(topics))
    return Sums(
        requests=len(requests),
        answered=sum(logged.answer == "200" for logged in requests),
        records=there.total(),
        lost=tuple(sorted(answered - there.keys())),
        # What was asked for twice may be there twice: the first answer may have been cut.
        unasked=tuple(sorted((there - asked).elements())),
        doubled=tuple(_doubled(topics[LIFECYCLES])),
    )


def _names(logged: Logged) -> tuple[str, ...]:
    return logged.sent.ids if logged.sent.path == "/sends" else (logged.sent.ce_id,)


def _records(topics: Mapping[str, Sequence[Kept]]) -> Iterator[str]:
    for kept in topics[SENDS]:
        yield (kept.key or b"").decode()
    for topic in (STATUSES, RECEIPTS, INBOUND, QUARANTINE):
        for kept in topics[topic]:
            yield header(kept.headers, "ce_id") or ""


def _doubled(lifecycles: Sequence[Kept]) -> Iterator[str]:
    for key, kept in last_of(lifecycles).items():
        if kept.value is not None:
            facts = decode_lifecycle(kept.value).facts
            if len({(f.kind, f.status, f.code, f.segment, f.account) for f in facts}) != len(facts):
                yield key
