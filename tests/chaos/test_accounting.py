"""The sums find one id that is lost, one that nobody sent, one that stands there too often, and a
record that a stage took twice or not at all."""

from __future__ import annotations

from collections import Counter

import pytest

from processors.aside import REROUTED
from schemas.codec import encode
from schemas.events import Fact
from schemas.lifecycle import Lifecycle
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
from schemas.totals import TotalsRecord, totals_key
from sendtrace.simulator.requests import Logged, Sent
from sendtrace.verify.found import Kept

from chaos.accounting import sums

TOPICS = (SENDS, STATUSES, RECEIPTS, INBOUND, QUARANTINE, PARTS, LIFECYCLES, TOTALS)
READ = (SENDS, STATUSES, RECEIPTS)


def request(ce_id: str, status: int | None) -> Logged:
    sent = Sent(n=ce_id, method="POST", path="/webhooks/status", ce_id=ce_id, ids=("m",), at_us=0)
    return Logged(sent, status, status is None)


def send(ids: tuple[str, ...], status: int | None) -> Logged:
    sent = Sent(n="s", method="POST", path="/sends", ce_id="s", ids=ids, at_us=0)
    return Logged(sent, status, status is None)


def kept(key: str, ce_id: str, value: bytes | None = b"{}") -> Kept:
    return Kept(0, 0, 0, key.encode(), value, [("ce_id", ce_id.encode())])


def topics(**found: list[Kept]) -> dict[str, list[Kept]]:
    """With totals that count each input record once, unless they are given."""
    read = Counter((topic, each.partition) for topic in READ for each in found.get(topic, ()))
    totals = [events(topic, number, partition) for (topic, partition), number in read.items()]
    return {name: [] for name in TOPICS} | {TOTALS: totals} | found


def events(topic: str, number: int, partition: int = 0) -> Kept:
    """So many records of one result, as the last record of its label set says it."""
    labels = (("input", topic), ("result", "new"))
    value = encode(TotalsRecord(counters={"events": number}))
    return Kept(partition, 0, 0, totals_key("join", partition, labels), value, [])


def test_what_was_answered_is_there() -> None:
    requests = [request("a", 200), request("b", 503), request("c", None), send(("m", "n"), 200)]
    found = topics(statuses=[kept("m", "a"), kept("m", "c")], sends=[kept("m", ""), kept("n", "")])
    result = sums(requests, found)
    assert result.is_clean
    assert (result.requests, result.answered, result.records) == (4, 2, 4)


@pytest.mark.parametrize(
    ("requests", "found", "lost", "unasked"),
    [
        ([request("a", 200)], topics(), ("a",), ()),
        ([send(("m", "n"), 200)], topics(sends=[kept("m", "")]), ("n",), ()),
        ([], topics(receipts=[kept("m", "a")]), (), ("a",)),
        ([request("a", 200)], topics(inbound=[kept("m", "a"), kept("m", "a")]), (), ("a",)),
        ([request("a", 200)] * 2, topics(inbound=[kept("m", "a")]), ("a",), ()),
        ([request("a", None)] * 2, topics(inbound=[kept("m", "a"), kept("m", "a")]), (), ()),
    ],
    ids=[
        "a webhook lost",
        "a message of a send lost",
        "never sent",
        "there twice",
        "one of two lost",
        "tried twice",
    ],
)
def test_what_is_lost_or_unasked(
    requests: list[Logged],
    found: dict[str, list[Kept]],
    lost: tuple[str, ...],
    unasked: tuple[str, ...],
) -> None:
    result = sums(requests, found)
    assert (result.lost, result.unasked) == (lost, unasked)


@pytest.mark.parametrize(
    ("counted", "skipped", "recounted"),
    [
        ([events(STATUSES, 2)], 0, 0),
        ([events(STATUSES, 1), events(STATUSES, 2)], 0, 0),
        ([events(STATUSES, 3)], 0, 1),
        ([events(STATUSES, 1)], 1, 0),
        ([], 2, 0),
        ([events(STATUSES, 1), events(STATUSES, 1, partition=1)], 1, 1),
    ],
    ids=["once", "as it says last", "one twice", "one not", "none", "of another partition"],
)
def test_what_a_stage_took_twice_or_not(counted: list[Kept], skipped: int, recounted: int) -> None:
    """No lifecycle tells: a fact that is there already changes nothing."""
    there = [kept("m", "a"), kept("m", "b")]
    result = sums([request("a", 200), request("b", 200)], topics(statuses=there, totals=counted))
    assert (result.skipped, result.recounted) == (skipped, recounted)
    assert result.is_clean is not bool(skipped or recounted)


def aside(topic: str, ce_id: str, origin: str) -> Kept:
    """A copy that a processor made of what stood at the origin."""
    name = "st_origin" if topic == QUARANTINE else REROUTED
    headers = [("ce_id", ce_id.encode()), (name, origin.encode())]
    return Kept(1, 7, 0, b"m", b"{}", headers)


POISON = kept("m", "p")  # in partition 0, at offset 0
COPY = aside(QUARANTINE, "p", "statuses-0-0")


@pytest.mark.parametrize(
    ("statuses", "quarantined", "strays", "astray"),
    [
        ([POISON], [COPY], ("p",), ()),
        ([POISON], [], ("p",), ("statuses-0-0",)),
        ([POISON], [COPY, COPY], ("p",), ("statuses-0-0",)),
        ([POISON], [COPY], (), ("statuses-0-0",)),
        ([POISON, aside(STATUSES, "p", "statuses-0-0")], [], ("p",), ()),
        ([], [aside(QUARANTINE, "p", "statuses-0-9")], ("p",), ("statuses-0-9",)),
    ],
    ids=["as it must", "not", "twice", "a good one", "to its partition", "of nothing"],
)
def test_what_is_put_aside(
    statuses: list[Kept], quarantined: list[Kept], strays: tuple[str, ...], astray: tuple[str, ...]
) -> None:
    result = sums(
        [request("p", 200)] if statuses else [],
        topics(statuses=statuses, quarantine=quarantined),
        strays,
    )
    assert result.astray == astray
    assert result.is_clean is not bool(astray)


@pytest.mark.parametrize("times", [1, 2])
def test_a_fact_that_stands_twice(times: int) -> None:
    fact = Fact(kind="status", status="delivered", arrived_at_us=0)
    value = encode(Lifecycle(message_id="m", facts=[fact] * times))
    assert sums([], topics(lifecycles=[kept("m", "", value)])).doubled == ("m",) * (times - 1)
