"""What each record of ``lifecycles`` changes, and each message once in a batch."""

import msgspec
import pytest

from schemas.codec import encode, header
from schemas.lifecycle import Lifecycle, Summary
from sendtrace.runtime.quarantine import quarantine_headers
from sinks.changes import (
    KEEP,
    Batch,
    Deletion,
    RowReason,
    Unusable,
    change_of,
)
from sinks.rows import NAMES, Version, row_of

AT = Version(topic_epoch=1, partition=2, offset=30)
ERASED = Lifecycle(message_id="m1", erased=True, erased_at_us=1_700_000_000_000_000)


def lifecycle(message_id: str = "m1", **summary: object) -> Lifecycle:
    fields = {"outcome": "delivered"} | summary
    return Lifecycle(message_id=message_id, summary=msgspec.convert(fields, Summary))


def test_a_lifecycle_becomes_its_row() -> None:
    whole = lifecycle(recipient="447700900000", country="GB", cost_units=3_330_000)
    assert change_of(b"m1", encode(whole), (), AT) == row_of(whole, AT)


def test_an_erased_lifecycle_deletes_the_row() -> None:
    """As it comes from the joiner, and as DESIGN section 3 writes it."""
    assert change_of(b"m1", encode(ERASED), (), AT) == Deletion("m1", AT)
    written = b'{"message_id":"m1","erased":true,"erased_at":1700000000000000}'
    assert change_of(b"m1", written, (), AT) == Deletion("m1", AT)


@pytest.mark.parametrize(
    ("headers", "change"),
    [
        ([("reason", b"expired")], KEEP),
        ([("reason", b"forgotten")], Deletion("m1", AT)),
        ([], Deletion("m1", AT)),
    ],
)
def test_tombstones(headers: list[tuple[str, bytes]], change: object) -> None:
    assert change_of(b"m1", None, headers, AT) == change


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, None, RowReason.KEY),
        (b"a\0b", None, RowReason.KEY),
        (b"\xff", None, RowReason.KEY),
        (b"m1", b"", RowReason.UNDECODABLE),
        (b"m1", b'{"message_id":"m1","summary":{"outcome":"lost"}}', RowReason.UNDECODABLE),
        (b"m1", b'{"message_id":"m\xff"}', RowReason.UNDECODABLE),
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
    assert change_of(key, value, (), AT) == Unusable(reason)


def at(offset: int) -> Version:
    return Version(1, 0, offset)


def test_the_last_record_of_a_message_wins_within_a_batch() -> None:
    batch = Batch()
    for offset, outcome in enumerate(("pending", "delivered", "read")):
        batch.add(b"m1", encode(lifecycle(outcome=outcome)), (), at(offset))
    [only] = batch.rows.values()
    assert (only[NAMES.index("outcome")], only[NAMES.index("source_offset")]) == ("read", 2)
    assert batch.fed == 3


def test_forgotten_after_a_row_and_a_row_after_forgotten() -> None:
    batch = Batch()
    batch.add(b"m1", encode(lifecycle("m1")), (), at(0))
    batch.add(b"m1", None, [("reason", b"forgotten")], at(1))
    batch.add(b"m2", None, [("reason", b"forgotten")], at(2))
    batch.add(b"m2", encode(lifecycle("m2")), (), at(3))
    assert (list(batch.rows), list(batch.deletions)) == (["m2"], ["m1"])


def test_erased_after_a_row_and_what_comes_after_it() -> None:
    batch = Batch()
    batch.add(b"m1", encode(lifecycle("m1")), (), at(0))
    batch.add(b"m1", encode(ERASED), (), at(1))
    assert (batch.rows, batch.deletions) == ({}, {"m1": Deletion("m1", at(1))})
    batch.add(b"m1", None, [("reason", b"forgotten")], at(2))
    assert batch.deletions == {"m1": Deletion("m1", at(2))}
    batch.add(b"m1", None, [("reason", b"expired")], at(3))
    assert batch.deletions == {"m1": Deletion("m1", at(2))}


def test_expired_does_not_undo_what_came_before_it_in_the_batch() -> None:
    batch = Batch()
    batch.add(b"m1", encode(lifecycle("m1")), (), at(0))
    batch.add(b"m1", None, [("reason", b"expired")], at(1))
    assert list(batch.rows) == ["m1"]


def test_quarantine_keeps_the_headers_and_adds_why_and_where() -> None:
    headers = quarantine_headers([("x", b"1")], "lifecycles-2-30", RowReason.NO_SUMMARY.value)
    assert headers[0] == ("x", b"1")
    assert header(headers, "reason") == RowReason.NO_SUMMARY.value
    assert header(headers, "st_origin") == "lifecycles-2-30"
    assert header(headers, "ce_type") == "com.sendtrace.quarantine.v1"
