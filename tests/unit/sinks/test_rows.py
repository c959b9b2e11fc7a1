"""Rows of the tables: every field in its column, and nothing legal is refused."""

from collections.abc import Iterable
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import get_args, get_type_hints

import msgspec
import pytest

from schemas import events
from schemas.events import Fact, Inbound, Send
from schemas.lifecycle import Lifecycle, Overdue, Summary
from schemas.numbers import money, parse_iso_us
from schemas.rollup import Item, Part, Rollup, RollupSummary
from schemas.vonage.fields import ID_LENGTH
from sinks.migrate import migrations
from sinks.rows import (
    EVENTS,
    INBOUND,
    MESSAGES,
    ROLLUPS,
    TABLES,
    TEXT_LIMIT,
    InboundReading,
    Version,
    event_rows,
    inbound_row,
    rollup_row,
    row_of,
)

AT = Version(topic_epoch=1, partition=2, offset=30)
# docs/rules.md 7 names them; `direction` is a default of the table.
FROM_THE_SEND = (
    "send_id", "part", "parts", "application", "encoding", "message_class", "pool_id", "entity_id",
    "content_id", "template",
)  # fmt: skip
WIDEST = "\U0001f600"  # four bytes in UTF-8


def columns_of(lifecycle: Lifecycle) -> dict[str, object]:
    return dict(zip(MESSAGES.names, row_of(lifecycle, AT), strict=True))


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
    texts = {column.name: WIDEST * longest for column in MESSAGES.columns if column.kind == "text"}
    assert MESSAGES.fits(tuple(texts.get(name) for name in MESSAGES.names))


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
            assert MESSAGES.fits(
                tuple(value if c.kind == kind else None for c in MESSAGES.columns)
            ), (kind, value)


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
    assert not MESSAGES.fits(tuple(value if column == name else None for column in MESSAGES.names))


def test_the_bounds_of_time_are_readers_bounds() -> None:
    """asyncpg and other readers in Python have no year 0 and no year 10000."""
    for value in (-62_135_596_800_000_000, 253_402_300_799_999_999):
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)


def facts_of(lifecycle: Lifecycle) -> list[dict[str, object]]:
    return [dict(zip(EVENTS.names, row, strict=True)) for row in event_rows(lifecycle)]


def test_every_fact_is_a_row_with_every_column() -> None:
    fields = filled(Fact, kind="receipt")
    [found] = facts_of(Lifecycle(message_id="m1", facts=(Fact(**fields),)))
    assert found.pop("message_id") == "m1"
    assert found.pop("price") == fields["price_units"]
    assert found == {
        name: fields.get(name, fields.get(f"{name}_us")) for name in EVENTS.names if name in found
    }


def test_what_no_webhook_told_is_a_fact_too() -> None:
    lifecycle = Lifecycle(
        message_id="m1",
        send=Send(message_id="m1", send_id="s1", api="sms", arrived_at_us=1),
        overdue=(Overdue("final", 7), Overdue("no_first_event", 5)),
        revoke_requested_at_us=9,
    )
    rows = facts_of(lifecycle)
    assert [(r["kind"], r["status"], r["arrived_at"], r["after_refusal"]) for r in rows] == [
        ("overdue", "final", 7, False),
        ("overdue", "no_first_event", 5, False),
        ("revoke_requested", "", 9, False),
    ]
    for row in rows:
        assert {row[name] for name in EVENTS.names[8:-1]} | {row["provider_at"]} == {None}
        assert {row[name] for name in ("code", "segment", "account")} == {""}


def test_a_fragment_says_so() -> None:
    summary = Summary(outcome="delivered")
    for fragment in (False, True):
        lifecycle = Lifecycle(message_id="m1", summary=summary, fragment=fragment)
        assert columns_of(lifecycle)["fragment"] is fragment


def rollup_of(summary: RollupSummary) -> dict[str, object]:
    first = Part(message_id="m2", kind="failover", outcome="failed")
    second = Part(message_id="m1", kind="failover", outcome="failed", send_id="s1")
    rollup = Rollup(
        id="w1", kind="failover", items=(Item(1, first), Item(2, second)), summary=summary
    )
    return dict(zip(ROLLUPS.names, rollup_row(rollup, AT), strict=True))


def test_every_part_of_a_rollups_summary_has_its_column() -> None:
    fields = filled(RollupSummary, costs=(("EUR", 33),))
    found = rollup_of(RollupSummary(**fields))
    for name in fields.keys() - {"costs"}:
        assert found[column_of(name)] == fields[name], name
    assert (found["cost"], found["currency"]) == (33, "EUR")
    assert (found["id"], found["kind"], found["send_id"]) == ("w1", "failover", "s1")
    assert (found["topic_epoch"], found["source_partition"], found["source_offset"]) == (1, 2, 30)


@pytest.mark.parametrize("costs", [(), (("EUR", 33), ("USD", 44))])
def test_money_of_two_currencies_is_never_added(costs: tuple[tuple[str, int], ...]) -> None:
    found = rollup_of(RollupSummary(outcome="failed", costs=costs))
    assert (found["cost"], found["currency"]) == (None, None)


def inbound_of(reading: InboundReading | None = None, **given: object) -> dict[str, object]:
    needed = {"message_id": "i1", "api": "sms", "channel": "sms", "arrived_at_us": 1}
    made = Inbound(**(needed | given))  # type: ignore[arg-type]
    row = inbound_row(made, reading or InboundReading(), AT)
    return dict(zip(INBOUND.names, row, strict=True))


def test_what_an_inbound_message_knows() -> None:
    fields = filled(Inbound, sender="447400123456", channel="sms", concat_part=2)
    found = inbound_of(**fields)
    assert (found["part"], found["cost"], found["country"]) == (2, fields["price_units"], "GB")
    same = fields.keys() & set(INBOUND.names)
    assert {name: found[name] for name in same} == {name: fields[name] for name in same}
    assert found["arrived_at"] == fields["arrived_at_us"]
    assert (found["currency_source"], found["traffic"]) == ("field", "live")


def test_an_inbound_message_of_one_part_and_without_a_price() -> None:
    found = inbound_of()
    assert (found["part"], found["account"]) == (1, None)
    assert (found["cost"], found["currency"], found["currency_source"]) == (None, None, None)


def test_settings_about_inbound_messages() -> None:
    reading = InboundReading(default_currency="USD", test_accounts=frozenset({"a1"}))
    found = inbound_of(reading, price_units=5, account="a1")
    assert (found["currency"], found["currency_source"]) == ("USD", "default")
    assert found["traffic"] == "test"
    own = reading._replace(currencies={"a1": "GBP"})
    assert inbound_of(own, price_units=5, account="a1")["currency"] == "GBP"


def test_a_text_without_what_postgresql_cannot_hold() -> None:
    assert inbound_of(text="a\0b")["text"] == "ab"


def test_a_long_text_fits_where_no_index_is() -> None:
    for name, fits in (("text", True), ("sender", False)):
        values = dict.fromkeys(INBOUND.names) | {name: "x" * 100_000}
        assert INBOUND.fits(tuple(values.values())) is fits


def test_every_column_stands_in_a_migration() -> None:
    """The contract test on PostgreSQL holds types too; this one says so without a server."""
    text = "\n".join(migration.sql for migration in migrations())
    for table in TABLES:
        for name in table.names:
            assert f"comment on column {table.name}.{name} is" in text, (table.name, name)
    assert "comment on column messages.direction is" in text
