"""What each record of the loaded topics changes, and each key once in a batch."""

import msgspec
import pytest

from schemas.codec import encode, header
from schemas.events import Fact
from schemas.lifecycle import Lifecycle, Summary
from schemas.numbers import parse_iso_us
from schemas.rollup import Rollup, RollupSummary
from schemas.vonage.reasons import Reason
from sendtrace.runtime.quarantine import quarantine_headers
from sinks.changes import (
    KEEP,
    Batch,
    Changes,
    Deletion,
    Message,
    RowReason,
    Unusable,
    inbound_change,
    message_change,
    rollup_change,
)
from sinks.rows import (
    INBOUND,
    MESSAGES,
    InboundReading,
    Row,
    Version,
    event_rows,
    rollup_row,
    row_of,
)

AT = Version(topic_epoch=1, partition=2, offset=30)
ERASED = Lifecycle(message_id="m1", erased=True, erased_at_us=1_700_000_000_000_000)


def lifecycle(message_id: str = "m1", **summary: object) -> Lifecycle:
    fields = {"outcome": "delivered"} | summary
    return Lifecycle(message_id=message_id, summary=msgspec.convert(fields, Summary))


def with_facts(
    message_id: str, *statuses: str, fragment: bool = False, **summary: object
) -> Lifecycle:
    facts = tuple(Fact(kind="status", status=status, arrived_at_us=5) for status in statuses)
    made = lifecycle(message_id, **summary)
    return msgspec.structs.replace(made, facts=facts, fragment=fragment)


def test_a_lifecycle_becomes_its_row() -> None:
    whole = lifecycle(recipient="447700900000", country="GB", cost_units=3_330_000)
    assert message_change(b"m1", encode(whole), (), AT) == Message(row_of(whole, AT), ())


def test_and_its_facts_become_theirs() -> None:
    whole = with_facts("m1", "submitted", "delivered")
    change = message_change(b"m1", encode(whole), (), AT)
    assert change == Message(row_of(whole, AT), event_rows(whole))
    assert len(event_rows(whole)) == 2


def test_an_erased_lifecycle_deletes_the_row() -> None:
    """As it comes from the joiner, and as the topic's contract has it."""
    assert message_change(b"m1", encode(ERASED), (), AT) == Deletion("m1", AT)
    written = b'{"message_id":"m1","erased":true,"erased_at":1700000000000000}'
    assert message_change(b"m1", written, (), AT) == Deletion("m1", AT)


@pytest.mark.parametrize(
    ("headers", "change"),
    [
        ([("reason", b"expired")], KEEP),
        ([("reason", b"forgotten")], Deletion("m1", AT)),
        ([], Deletion("m1", AT)),
    ],
)
def test_tombstones(headers: list[tuple[str, bytes]], change: object) -> None:
    assert message_change(b"m1", None, headers, AT) == change


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, None, RowReason.KEY),
        (b"a\0b", None, RowReason.KEY),
        (b"\xff", None, RowReason.KEY),
        (b"m1", b"", RowReason.UNDECODABLE),
        (b"m1", b'{"message_id":"m1","summary":{"outcome":"lost"}}', RowReason.UNDECODABLE),
        (b"m1", b'{"message_id":"m\xff"}', RowReason.UNDECODABLE),
        (b"m1", b'{"x":' + b"[" * 10_000, RowReason.UNDECODABLE),
        (b"m1", b'{"v":2,"message_id":"m1"}', RowReason.NEWER_FORMAT),
        (b"m1", encode(Lifecycle(message_id="m1")), RowReason.NO_SUMMARY),
        (b"m2", encode(lifecycle("m1")), RowReason.OTHER_KEY),
        (None, encode(lifecycle("m1")), RowReason.OTHER_KEY),
        (b"m2", encode(ERASED), RowReason.OTHER_KEY),
        (b"a\0b", encode(Lifecycle(message_id="a\0b", erased=True)), RowReason.KEY),
        (b"", encode(Lifecycle(message_id="", erased=True)), RowReason.KEY),
        (b"m1", encode(lifecycle(sender="a\0b")), RowReason.OUT_OF_RANGE),
        (b"m1", encode(lifecycle(estimate_units=10**18)), RowReason.OUT_OF_RANGE),
    ],
)
def test_what_makes_no_row(key: bytes | None, value: bytes | None, reason: RowReason) -> None:
    assert message_change(key, value, (), AT) == Unusable(reason)


def at(offset: int) -> Version:
    return Version(1, 0, offset)


def test_the_last_record_of_a_message_wins_within_a_batch() -> None:
    batch = Batch(InboundReading())
    for offset, outcome in enumerate(("pending", "delivered", "read")):
        batch.add_lifecycle(b"m1", encode(lifecycle(outcome=outcome)), (), at(offset))
    [only] = batch.changes().messages
    assert (only[MESSAGES.names.index("outcome")], only[MESSAGES.names.index("source_offset")]) == (
        "read",
        2,
    )
    assert batch.fed == 3


def test_forgotten_after_a_row_and_a_row_after_forgotten() -> None:
    batch = Batch(InboundReading())
    batch.add_lifecycle(b"m1", encode(lifecycle("m1")), (), at(0))
    batch.add_lifecycle(b"m1", None, [("reason", b"forgotten")], at(1))
    batch.add_lifecycle(b"m2", None, [("reason", b"forgotten")], at(2))
    batch.add_lifecycle(b"m2", encode(lifecycle("m2")), (), at(3))
    changes = batch.changes()
    assert [row[0] for row in changes.messages] == ["m2"]
    # Also of what came anew: it must not take over what the forgotten one knew.
    assert [deletion.key for deletion in changes.deletions] == ["m1", "m2"]


def nothing_but_deletions(version: Version) -> Changes:
    return Changes([Deletion("m1", version)], [], [], [], [], [])


def test_erased_after_a_row_and_what_comes_after_it() -> None:
    batch = Batch(InboundReading())
    batch.add_lifecycle(b"m1", encode(lifecycle("m1")), (), at(0))
    batch.add_lifecycle(b"m1", encode(ERASED), (), at(1))
    assert batch.changes() == nothing_but_deletions(at(1))
    batch.add_lifecycle(b"m1", None, [("reason", b"forgotten")], at(2))
    assert batch.changes() == nothing_but_deletions(at(2))
    batch.add_lifecycle(b"m1", None, [("reason", b"expired")], at(3))
    assert batch.changes() == nothing_but_deletions(at(2))


def test_expired_does_not_undo_what_came_before_it_in_the_batch() -> None:
    batch = Batch(InboundReading())
    batch.add_lifecycle(b"m1", encode(lifecycle("m1")), (), at(0))
    batch.add_lifecycle(b"m1", None, [("reason", b"expired")], at(1))
    assert [row[0] for row in batch.changes().messages] == ["m1"]


def test_quarantine_keeps_the_headers_and_adds_why_and_where() -> None:
    headers = quarantine_headers([("x", b"1")], "lifecycles-2-30", RowReason.NO_SUMMARY.value)
    assert headers[0] == ("x", b"1")
    assert header(headers, "reason") == RowReason.NO_SUMMARY.value
    assert header(headers, "st_origin") == "lifecycles-2-30"
    assert header(headers, "ce_type") == "com.sendtrace.quarantine.v1"


def facts_in(batch: Batch) -> list[tuple[object, object]]:
    status = 2
    return [(event[0], event[status]) for event in batch.changes().events]


def test_facts_go_with_the_last_row_of_their_message() -> None:
    batch = Batch(InboundReading())
    batch.add_lifecycle(b"m1", encode(with_facts("m1", "submitted")), (), at(0))
    batch.add_lifecycle(b"m2", encode(with_facts("m2", "submitted")), (), at(1))
    batch.add_lifecycle(b"m1", encode(with_facts("m1", "submitted", "delivered")), (), at(2))
    batch.add_lifecycle(b"m2", None, [("reason", b"forgotten")], at(3))
    assert facts_in(batch) == [("m1", "submitted"), ("m1", "delivered")]


def test_a_fragment_adds_to_what_the_batch_has() -> None:
    """Whole, expired, and a fact after that: all in one batch, as after a long downtime."""
    batch = Batch(InboundReading())
    whole = with_facts("m1", "submitted", outcome="unconfirmed", sender="shop")
    late = with_facts("m1", "delivered", fragment=True, outcome="delivered", is_final=True)
    batch.add_lifecycle(b"m1", encode(whole), (), at(0))
    batch.add_lifecycle(b"m1", None, [("reason", b"expired")], at(1))
    batch.add_lifecycle(b"m1", encode(late), (), at(2))
    [row] = batch.changes().messages
    found = dict(zip(MESSAGES.names, row, strict=True))
    assert (found["outcome"], found["sender"], found["source_offset"]) == ("delivered", "shop", 2)
    assert found["fragment"] is False
    assert facts_in(batch) == [("m1", "submitted"), ("m1", "delivered")]


def test_after_an_erasure_a_fragment_adds_to_nothing() -> None:
    batch = Batch(InboundReading())
    batch.add_lifecycle(b"m1", encode(with_facts("m1", "submitted", sender="shop")), (), at(0))
    batch.add_lifecycle(b"m1", encode(ERASED), (), at(1))
    late = with_facts("m1", "delivered", fragment=True)
    batch.add_lifecycle(b"m1", encode(late), (), at(2))
    changes = batch.changes()
    assert changes.messages == [row_of(late, at(2))]
    assert changes.deletions == [Deletion("m1", at(1))]
    assert facts_in(batch) == [("m1", "delivered")]


def rollup(rollup_id: str = "s1", **fields: object) -> Rollup:
    return Rollup(id=rollup_id, summary=RollupSummary(**({"outcome": "delivered"} | fields)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value", "headers", "change"),
    [
        (b"s1", encode(rollup()), [], rollup_row(rollup(), AT)),
        (b"s1", None, [("reason", b"expired")], KEEP),
        (b"s1", None, [("reason", b"forgotten")], Deletion("s1", AT)),
        (None, None, [], Unusable(RowReason.ROLLUP_KEY)),
        (b"s1", b"{", [], Unusable(RowReason.ROLLUP_UNDECODABLE)),
        (b"s1", b'{"x":' + b"[" * 10_000, [], Unusable(RowReason.ROLLUP_UNDECODABLE)),
        (b"s1", b'{"id":"s1","v":2}', [], Unusable(RowReason.ROLLUP_NEWER_FORMAT)),
        (b"s2", encode(rollup()), [], Unusable(RowReason.ROLLUP_OTHER_KEY)),
        (b"s1", b'{"id":"s1"}', [], Unusable(RowReason.ROLLUP_NO_SUMMARY)),
        (b"s1", encode(rollup(account="\0")), [], Unusable(RowReason.ROLLUP_OUT_OF_RANGE)),
    ],
)
def test_rollups(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], change: object
) -> None:
    assert rollup_change(key, value, headers, AT) == change


def test_a_rollup_once_in_a_batch_forgotten_or_not() -> None:
    batch = Batch(InboundReading())
    batch.add_rollup(b"s1", encode(rollup(known=1)), (), at(0))
    batch.add_rollup(b"s1", encode(rollup(known=2)), (), at(1))
    batch.add_rollup(b"s2", encode(rollup("s2")), (), at(2))
    batch.add_rollup(b"s2", None, [("reason", b"forgotten")], at(3))
    changes = batch.changes()
    assert changes.rollups == [rollup_row(rollup(known=2), at(1))]
    assert changes.rollup_deletions == [Deletion("s2", at(3))]


CAME = b'{"messageId":"i1","msisdn":"447400123456","to":"447700900000","text":"Stop now"}'


def inbound(value: bytes | None, reading: InboundReading | None = None) -> Row | Unusable:
    headers = [("ce_time", b"2026-11-22T10:00:00.000000Z"), ("ce_verified", b"none")]
    return inbound_change(value, headers, 5, reading or InboundReading(), AT)


def inbound_columns(change: Row | Unusable) -> dict[str, object]:
    assert not isinstance(change, Unusable)
    return dict(zip(INBOUND.names, change, strict=True))


def test_an_inbound_message_becomes_its_row_without_its_text() -> None:
    found = inbound_columns(inbound(CAME))
    assert (found["message_id"], found["part"], found["text"]) == ("i1", 1, None)
    assert (found["text_length"], found["keyword_class"]) == (8, "STOP")
    assert found["arrived_at"] == parse_iso_us("2026-11-22T10:00:00.000000Z")


def test_with_its_text_if_that_is_asked_for() -> None:
    assert inbound_columns(inbound(CAME, InboundReading(keep_text=True)))["text"] == "Stop now"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.EMPTY),
        (b"{", Reason.NOT_JSON),
        (b'{"message_uuid":"m1","status":"delivered"}', Reason.IS_NO_INBOUND),
    ],
)
def test_what_is_no_inbound_message(value: bytes | None, reason: Reason) -> None:
    assert inbound(value) == Unusable(reason)


def test_of_two_inbound_messages_in_a_batch_the_first_stays() -> None:
    batch = Batch(InboundReading())
    for offset in (3, 4):
        batch.add_inbound(CAME, (), 5, at(offset))
    batch.add_inbound(CAME.replace(b"i1", b"i2"), (), 5, at(5))
    assert [(row[0], row[-1]) for row in batch.changes().inbound] == [("i1", 3), ("i2", 5)]
    assert batch.fed == 3


def everything(changes: Changes) -> Changes:
    """What the halves of the halves change in the end, in order."""
    halves = changes.halves()
    if not halves:
        return changes
    last, first = map(everything, halves)
    return Changes(*[[*one, *two] for one, two in zip(first, last, strict=True)])  # type: ignore[arg-type]


def test_halves_lose_nothing_and_end_with_single_rows() -> None:
    messages: list[Row] = [(f"m{n}",) for n in range(5)]
    events: list[Row] = [(f"m{n}", status) for n in range(5) for status in ("a", "b")]
    changes = Changes(
        [Deletion("m1", AT)], messages, events, [Deletion("s1", AT)], [("s2",)], [("i1",)]
    )
    assert [sorted(part) for part in everything(changes)] == [sorted(part) for part in changes]
    assert Changes(messages=messages[:1], events=events[:2]).halves() == []
    for half in changes.halves():
        of_messages = {row[0] for row in half.messages}
        assert {event[0] for event in half.events} == of_messages
    # What is forgotten goes first, and does not go down with a row that is refused.
    last, first = Changes([Deletion("m1", AT)], messages[:1]).halves()
    assert (list(last.messages), list(last.deletions)) == (messages[:1], [])
    assert (list(first.messages), list(first.deletions)) == ([], [Deletion("m1", AT)])
