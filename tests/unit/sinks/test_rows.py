"""Rows: what each record of ``lifecycles`` changes, and each message once in a batch."""

import msgspec
import pytest

from schemas.codec import encode, header
from schemas.events import Send
from schemas.lifecycle import Lifecycle, Summary
from sinks.rows import (
    KEEP,
    NAMES,
    Batch,
    Deletion,
    RowReason,
    Unusable,
    Version,
    change_of,
    quarantine_headers,
)

AT = Version(topic_epoch=1, partition=2, offset=30)


def lifecycle(message_id: str = "m1", **summary: object) -> Lifecycle:
    fields = {"outcome": "delivered"} | summary
    return Lifecycle(message_id=message_id, summary=msgspec.convert(fields, Summary))


def row(value: Lifecycle, version: Version = AT) -> dict[str, object]:
    change = change_of(value.message_id.encode(), encode(value), (), version)
    assert type(change) is tuple
    return dict(zip(NAMES, change, strict=True))


def test_every_part_of_the_summary_has_its_column() -> None:
    """Each field gets a value of its own; the column of that name must hold it."""
    fields: dict[str, object] = {}
    for index, field in enumerate(msgspec.structs.fields(Summary)):
        if field.name.endswith(("_us", "_ms", "_units")) or field.name == "segments":
            fields[field.name] = index
        else:
            fields[field.name] = field.name
    fields |= {"outcome": "read", "is_final": True, "flags": ("late", "foreign")}
    fields |= {"currency_source": "field", "cost_source": "event"}
    found = row(lifecycle(**fields))
    for name, value in fields.items():
        column = name.removesuffix("_us").removesuffix("_units")
        assert found[column] == value, name


def test_what_the_send_knows() -> None:
    send = Send(
        message_id="m1", send_id="s1", api="sms", arrived_at_us=1, part=2, parts=3,
        receipt_expected=False,
    )  # fmt: skip
    found = row(msgspec.structs.replace(lifecycle(), send=send))
    assert [found[name] for name in ("send_id", "part", "parts", "receipt_expected")] == [
        "s1", 2, 3, False,
    ]  # fmt: skip
    assert [found[name] for name in ("topic_epoch", "source_partition", "source_offset")] == [
        1, 2, 30,
    ]  # fmt: skip


def test_without_a_send_its_columns_are_empty() -> None:
    found = row(lifecycle())
    assert {found[name] for name in ("send_id", "part", "parts", "receipt_expected")} == {None}


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
        (b"m1", encode(lifecycle(sender="a\0b")), RowReason.OUT_OF_RANGE),
        (b"m1", encode(lifecycle(client_ref="x" * 601)), RowReason.OUT_OF_RANGE),
        (b"m1", encode(lifecycle(segments=2**31)), RowReason.OUT_OF_RANGE),
        (b"m1", encode(lifecycle(cost_units=10**18)), RowReason.OUT_OF_RANGE),
        (b"m1", encode(lifecycle(read_at_us=2**62)), RowReason.OUT_OF_RANGE),
        (b"m1", encode(lifecycle(flags=("a", "b\0"))), RowReason.OUT_OF_RANGE),
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


def test_expired_does_not_undo_what_came_before_it_in_the_batch() -> None:
    batch = Batch()
    batch.add(b"m1", encode(lifecycle("m1")), (), at(0))
    batch.add(b"m1", None, [("reason", b"expired")], at(1))
    assert list(batch.rows) == ["m1"]


def test_quarantine_keeps_the_headers_and_adds_why_and_where() -> None:
    headers = quarantine_headers([("x", b"1")], "lifecycles-2-30", RowReason.NO_SUMMARY)
    assert headers[0] == ("x", b"1")
    assert header(headers, "reason") == RowReason.NO_SUMMARY.value
    assert header(headers, "st_origin") == "lifecycles-2-30"
    assert header(headers, "ce_type") == "com.sendtrace.quarantine.v1"
