"""Rows of ``messages``: every field in its column, and nothing legal is refused."""

from collections.abc import Iterable
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import get_args, get_type_hints

import msgspec
import pytest

from schemas import events
from schemas.events import Send
from schemas.lifecycle import Lifecycle, Summary
from schemas.numbers import money, parse_iso_us
from schemas.vonage.fields import ID_LENGTH
from sinks.migrate import migrations
from sinks.rows import COLUMNS, NAMES, TEXT_LIMIT, Version, fits, row_of

AT = Version(topic_epoch=1, partition=2, offset=30)
# RULES section 7 names them; `direction` is a default of the table.
FROM_THE_SEND = (
    "send_id", "part", "parts", "application", "encoding", "message_class", "pool_id", "entity_id",
    "content_id", "template",
)  # fmt: skip
WIDEST = "\U0001f600"  # four bytes in UTF-8


def columns_of(lifecycle: Lifecycle) -> dict[str, object]:
    return dict(zip(NAMES, row_of(lifecycle, AT), strict=True))


def column_of(field: str) -> str:
    return field.removesuffix("_us").removesuffix("_units")


def filled(struct: type[msgspec.Struct], **given: object) -> dict[str, object]:
    """A value of its own for every field, by its type: the first of some words, else its index."""
    values: dict[str, object] = {}
    for index, (name, hint) in enumerate(get_type_hints(struct).items()):
        kinds = {type(word) for word in words(hint)} or set(flat(hint))
        if name in given:
            values[name] = given[name]
        elif bool in kinds:
            values[name] = True
        elif int in kinds:
            values[name] = 1_000 + index
        else:
            values[name] = next(iter(words(hint)), f"{name}'s")
    return values


def flat(hint: object) -> Iterable[object]:
    yield from get_args(hint) or (hint,)


def words(hint: object) -> list[str]:
    """The words of a Literal, or of a Literal or None."""
    found = []
    for part in get_args(hint):
        found += [part] if isinstance(part, str) else words(part)
    return found


def test_every_part_of_the_summary_has_its_column() -> None:
    """Each field gets a value of its own; the column of that name must hold it."""
    fields = filled(Summary, part=2, parts=3, flags=("late", "foreign_account"))
    send = Send(message_id="m1", send_id="s1", api="sms", arrived_at_us=1, part=2, parts=3)
    found = columns_of(Lifecycle(message_id="m1", send=send, summary=Summary(**fields)))
    for name, value in fields.items():
        assert found[column_of(name)] == value, name
    assert [found[name] for name in ("topic_epoch", "source_partition", "source_offset")] == [
        1, 2, 30,
    ]  # fmt: skip


def test_what_the_send_knows() -> None:
    fields = filled(Send)
    summary = Summary(outcome="pending")
    found = columns_of(Lifecycle(message_id="m1", send=Send(**fields), summary=summary))
    assert {name: found[name] for name in FROM_THE_SEND} == {
        name: fields[name] for name in FROM_THE_SEND
    }
    assert found["balance"] == fields["balance_units"]


def test_without_a_send_its_columns_are_empty() -> None:
    found = columns_of(Lifecycle(message_id="m1", summary=Summary(outcome="pending")))
    assert {found[name] for name in (*FROM_THE_SEND, "balance", "receipt_expected")} == {None}


def test_the_longest_texts_that_are_legal_fit() -> None:
    """Texts are bounded where they are decoded: in characters, or in bytes, which are more."""
    longest = max(
        ID_LENGTH, events.TEXT_LENGTH, events.ID_TEXT_LENGTH, events.INSTANCE_LENGTH,
        events.WORD_LENGTH, events.CLIENT_REF_LENGTH,
    )  # fmt: skip
    texts = {column.name: WIDEST * longest for column in COLUMNS if column.kind == "text"}
    assert fits(tuple(texts.get(name) for name in NAMES))


def test_the_largest_numbers_that_are_legal_fit() -> None:
    """What schemas/numbers.py can make of a text."""
    most = money("999999999.99999999")
    first = parse_iso_us(datetime(MINYEAR, 1, 1, tzinfo=UTC).isoformat())
    last_time = datetime(MAXYEAR, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    last = parse_iso_us(last_time.isoformat())
    assert most is not None
    for kind, values in {
        "money_units": (most, -most),
        "time_us": (first, last),
        "bigint": ((last - first) // 1000, (first - last) // 1000),
        "integer": (99_999, 0),
    }.items():
        for value in values:
            assert fits(tuple(value if c.kind == kind else None for c in COLUMNS)), (kind, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sender", "a\0b"),
        ("client_ref", "x" * (TEXT_LIMIT + 1)),
        ("segments", 2**31),
        ("message_class", -(2**31)),
        ("cost", 10**18),
        ("balance", -(10**18)),
        ("ingest_lag_ms", 2**63),
        ("read_at", 2**62),
        ("sent_at", parse_iso_us("0001-01-01T00:00:00Z") - 1),
        ("flags", ("a", "b\0")),
        ("flags", ("a" * (TEXT_LIMIT + 1),)),
    ],
)
def test_what_the_database_cannot_hold(name: str, value: object) -> None:
    assert not fits(tuple(value if column == name else None for column in NAMES))


def test_the_bounds_of_time_are_readers_bounds() -> None:
    """asyncpg and other readers in Python have no year 0 and no year 10000."""
    for value in (-62_135_596_800_000_000, 253_402_300_799_999_999):
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)


def test_every_column_stands_in_one_migration() -> None:
    """The contract test on PostgreSQL holds types too; this one says so without a server."""
    text = "\n".join(migration.sql for migration in migrations())
    for name in (*NAMES, "direction"):
        assert text.count(f"comment on column messages.{name} is") >= 1, name
