"""What a warehouse promises; the in-memory fake and PostgreSQL answer to the same tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Protocol

import asyncpg
import pytest

from schemas.vonage.errors import CATALOGUE, lookup
from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.positions import Bounds, Gap
from sendtrace.verify import gather
from sinks import migrate as migrating
from sinks.changes import Changes, Deletion
from sinks.fragments import OF_MESSAGES, OF_ROLLUPS, Rule, merged
from sinks.migrate import MigrationError, migrate, migrations
from sinks.postgres import (
    AnotherLoaderAhead,
    Position,
    PostgresWarehouse,
    RowsRefused,
    SchemaMissing,
    Source,
    SourceChanged,
    Warehouse,
    WarehouseAway,
    short_session,
)
from sinks.rows import (
    EVENTS,
    INBOUND,
    MAX_TIME_US,
    MESSAGES,
    MIN_TIME_US,
    ROLLUPS,
    TEXT_LIMIT,
    Row,
    Table,
    Version,
)

from fakes.warehouse import MemoryWarehouse

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
TOPIC = "sendtrace.lifecycles"
P0, P1 = Partition(TOPIC, 0), Partition(TOPIC, 1)


class Subject(Protocol):
    """A warehouse, with what a test needs to look into it and to disturb it."""

    warehouse: Warehouse

    async def rows(self, table: Table = MESSAGES) -> list[Row]: ...
    async def break_connection(self) -> None: ...
    def second(self) -> Warehouse: ...


class MemorySubject:
    def __init__(self) -> None:
        self.warehouse = MemoryWarehouse()

    async def rows(self, table: Table = MESSAGES) -> list[Row]:
        return in_order((await self.warehouse.tables())[table.name])

    async def break_connection(self) -> None:
        self.warehouse.away = 1

    def second(self) -> Warehouse:
        return self.warehouse


class PostgresSubject:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.warehouse = PostgresWarehouse(dsn)
        self.others: list[PostgresWarehouse] = []

    async def rows(self, table: Table = MESSAGES) -> list[Row]:
        """The stored rows, turned back into what the loader handed in."""
        return in_order((await gather.tables(self.dsn))[table.name])

    async def break_connection(self) -> None:
        await ask(
            self.dsn,
            # Waits until they are gone, for 5 s at most.
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where application_name = 'sendtrace loader' and datname = current_database()",
        )

    def second(self) -> Warehouse:
        self.others.append(PostgresWarehouse(self.dsn))
        return self.others[-1]


async def ask(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


def in_order(rows: Mapping[Any, Row]) -> list[Row]:
    return [row for _, row in sorted(rows.items())]


@pytest.fixture
async def postgres_subject(postgres_dsn: str) -> AsyncIterator[PostgresSubject]:
    await migrate(postgres_dsn)
    subject = PostgresSubject(postgres_dsn)
    yield subject
    for warehouse in (subject.warehouse, *subject.others):
        await warehouse.close()


# Not async: an async fixture cannot ask for another one by name.
@pytest.fixture(params=["memory", "postgres"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "memory":
        return MemorySubject()
    found: Subject = request.getfixturevalue("postgres_subject")
    return found


def filled(table: Table, **values: object) -> Row:
    """A row in which every column holds something, so that none can be mixed up."""
    made: dict[str, object] = {}
    for index, column in enumerate(table.columns):
        match column.kind:
            case "text" | "long_text":
                made[column.name] = f"{column.name} of {values[table.key[0]]}"
            case "boolean":
                made[column.name] = bool(index % 2)
            case "texts":
                made[column.name] = ("late", 'odd "one", {x}')
            case "time_us":
                made[column.name] = 1_738_584_865_123_457 + index
            case _:
                made[column.name] = 1_000 + index
    made |= {"topic_epoch": 1, "source_partition": 0} | values
    return tuple(made[name] for name in table.names)


def row(message_id: str, offset: int, epoch: int = 1, **values: object) -> Row:
    version = {"topic_epoch": epoch, "source_offset": offset}
    return filled(MESSAGES, message_id=message_id, fragment=False, **(version | values))


def event(message_id: str, status: str, **values: object) -> Row:
    return filled(EVENTS, message_id=message_id, status=status, **values)


def rollup(rollup_id: str, offset: int, **values: object) -> Row:
    version: dict[str, object] = {"source_offset": offset, "fragment": False}
    return filled(ROLLUPS, id=rollup_id, **(version | values))


def inbound(message_id: str, part: int, offset: int, **values: object) -> Row:
    return filled(INBOUND, message_id=message_id, part=part, source_offset=offset, **values)


def deletion(message_id: str, offset: int, epoch: int = 1) -> Deletion:
    return Deletion(message_id, Version(epoch, 0, offset))


async def write(
    warehouse: Warehouse,
    rows: Sequence[Row] = (),
    deletions: Sequence[Deletion] = (),
    step: tuple[int, int] = (0, 10),
    events: Sequence[Row] = (),
) -> None:
    changes = Changes(deletions, rows, events)
    await warehouse.write(changes, {P0: step[0]}, {P0: step[1]})


async def test_begins_without_positions_and_adopts_each_once(subject: Subject) -> None:
    warehouse = subject.warehouse
    assert await warehouse.positions() == {}
    await warehouse.adopt({P0: 4})
    await warehouse.adopt({P0: 9, P1: 7})
    assert await warehouse.positions() == {P0: Position(4, 1), P1: Position(7, 1)}


async def test_rows_and_positions_are_kept_together_and_exactly(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0, P1: 0})
    nothing = dict.fromkeys(
        (c.name for c in MESSAGES.columns if c.kind in ("time_us", "money_units")), None
    ) | {"send_id": None, "part": None, "receipt_expected": None, "flags": ()}
    rows = [
        row("m1", 3, cost=-123_456_789),
        row("m2", 4, cost=999_999_999_99999999, read_at=-1),
        row("m3", 5, **nothing),
    ]
    await subject.warehouse.write(Changes(messages=rows), {P0: 0}, {P0: 6})
    assert await subject.rows() == rows
    assert await subject.warehouse.positions() == {P0: Position(6, 1), P1: Position(0, 1)}


async def test_whatever_fits_is_taken(subject: Subject) -> None:
    """At the bounds of ``fits``, or one message would fail its batch for ever. Texts are such that
    PostgreSQL cannot make them smaller for its index."""
    noise = random.Random(1)
    widest = "".join(chr(noise.randint(0x10000, 0x10FFFF)) for _ in range(TEXT_LIMIT))
    largest = {"text": widest, "integer": -(2**31 - 1), "bigint": -(2**63 - 1), "texts": (widest,)}
    largest |= {"time_us": MAX_TIME_US, "money_units": 1 - 10**18, "boolean": False}
    rows = [
        tuple(largest[column.kind] for column in MESSAGES.columns),
        row("m2", 4, sent_at=MIN_TIME_US),
    ]
    assert all(map(MESSAGES.fits, rows))
    await subject.warehouse.adopt({P0: 0})
    await write(subject.warehouse, rows, step=(0, 5))
    assert len(await subject.rows()) == 2


async def test_a_later_version_replaces_all_columns(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    await write(subject.warehouse, [row("m1", 3)], step=(0, 4))
    later = row("m1", 4, sender="another", outcome="read", cost=None, flags=())
    await write(subject.warehouse, [later], step=(4, 5))
    assert await subject.rows() == [later]


async def test_an_earlier_or_the_same_version_changes_nothing(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    newest = row("m1", 7, epoch=2)
    await write(subject.warehouse, [newest], step=(0, 8))
    for offset, epoch in ((6, 2), (7, 2), (900, 1)):
        again = row("m1", offset, epoch=epoch, outcome="older")
        await write(subject.warehouse, [again], step=(8, 8))
    assert await subject.rows() == [newest]


async def test_a_new_incarnation_of_the_topic_is_later(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    await write(subject.warehouse, [row("m1", 500)], step=(0, 8))
    rebuilt = row("m1", 1, epoch=2)
    await write(subject.warehouse, [rebuilt], step=(8, 9))
    assert await subject.rows() == [rebuilt]


async def test_forgotten_rows_go_unless_a_later_record_made_them(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    kept = row("m2", 6)
    await write(subject.warehouse, [row("m1", 3), kept], step=(0, 7))
    forgotten = [deletion("m1", 8), deletion("m2", 5), deletion("m3", 9)]
    await write(subject.warehouse, [row("m4", 7)], forgotten, step=(7, 10))
    assert await subject.rows() == [kept, row("m4", 7)]


async def test_another_loader_ahead_means_nothing_is_written(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0, P1: 0})
    await write(subject.warehouse, [row("m1", 3)], step=(0, 4))
    with pytest.raises(AnotherLoaderAhead):
        await write(subject.warehouse, [row("m2", 3)], [deletion("m1", 9)], step=(0, 4))
    # One of several positions is enough.
    with pytest.raises(AnotherLoaderAhead):
        refused = Changes(messages=[row("m2", 3)])
        await subject.warehouse.write(refused, {P0: 0, P1: 0}, {P0: 9, P1: 9})
    assert await subject.rows() == [row("m1", 3)]
    assert await subject.warehouse.positions() == {P0: Position(4, 1), P1: Position(0, 1)}
    # And it can go on after that.
    await write(subject.warehouse, [row("m2", 4)], step=(4, 5))
    assert len(await subject.rows()) == 2


async def test_a_position_never_adopted_is_not_written(subject: Subject) -> None:
    with pytest.raises(AnotherLoaderAhead):
        await write(subject.warehouse, [row("m1", 3)])
    assert await subject.rows() == []


async def test_of_two_loaders_at_once_exactly_one_moves_each_position(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0, P1: 0})
    loaders = [subject.warehouse, *(subject.second() for _ in range(3))]
    for start in range(0, 50, 10):
        results = await asyncio.gather(
            *(
                loader.write(
                    Changes(messages=[row(f"m{start}-{index}", start)]),
                    {P0: start, P1: start},
                    {P0: start + 10, P1: start + 10},
                )
                for index, loader in enumerate(loaders)
            ),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == [
            *["AnotherLoaderAhead"] * 3, "NoneType",
        ]  # fmt: skip
    assert len(await subject.rows()) == 5


async def test_a_broken_connection_is_told_and_mended(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    await subject.break_connection()
    with pytest.raises(WarehouseAway):
        await write(subject.warehouse, [row("m1", 3)])
    assert await subject.rows() == []
    await write(subject.warehouse, [row("m1", 3)])
    assert await subject.rows() == [row("m1", 3)]


async def test_a_server_that_goes_away_as_a_copy_begins_is_away_and_no_bug(
    postgres_dsn: str,
) -> None:
    """What asyncpg 0.31 raises then; it does not call the connection closed."""
    await migrate(postgres_dsn)
    warehouse = PostgresWarehouse(postgres_dsn)
    await warehouse.positions()
    with pytest.raises(WarehouseAway):
        async with warehouse._session():
            try:
                raise asyncpg.InternalClientError("cannot switch to state 21")
            except asyncpg.InternalClientError:
                raise asyncpg.InterfaceError("another operation is in progress")  # noqa: B904
    assert await warehouse.positions() == {}
    with pytest.raises(asyncpg.InterfaceError):
        async with warehouse._session():
            raise asyncpg.InterfaceError("used wrongly")
    await warehouse.close()


async def test_a_server_that_says_why_before_it_hangs_up_is_away_and_no_bug(
    postgres_dsn: str,
) -> None:
    """Its last word is read, its end not yet: asyncpg 0.31 takes that for an operation of ours."""
    await migrate(postgres_dsn)
    port = int(re.findall(r":(\d+)/", postgres_dsn)[0])
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)

        with contextlib.suppress(ConnectionError):
            asking = asyncio.create_task(pass_on(reader, server_writer))
            await pass_on(server_reader, writer)
            await done.wait()
            asking.cancel()
        writer.close()
        server_writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as relay:
        there = relay.sockets[0].getsockname()[1]
        warehouse = PostgresWarehouse(postgres_dsn.replace(f":{port}/", f":{there}/"))
        await warehouse.positions()
        await PostgresSubject(postgres_dsn).break_connection()
        await asyncio.sleep(0.2)  # the word passes, and nothing says when
        with pytest.raises(WarehouseAway):
            await warehouse.positions()
        assert await warehouse.positions() == {}
        await warehouse.close()
        done.set()


async def test_remembers_where_it_was_loaded_from(subject: Subject) -> None:
    await subject.warehouse.remember(Source(TOPIC, "cluster-a"))
    await subject.warehouse.remember(Source(TOPIC, "cluster-a"))
    await subject.warehouse.remember(Source("sendtrace.inbound", "cluster-b"))
    with pytest.raises(SourceChanged):
        await subject.warehouse.remember(Source(TOPIC, "cluster-b"))


async def test_a_gap_is_skipped_and_counted_where_the_position_is(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 4, P1: 2})
    await subject.warehouse.skip([Gap(P0, "deleted", 4, Bounds(9, 20))], {})
    assert await subject.warehouse.positions() == {
        P0: Position(9, 1, None, 1, 5),
        P1: Position(2, 1),
    }
    gaps = [Gap(P0, "remade", 9, Bounds(3, 20)), Gap(P1, "cut", 2, Bounds(0, 1))]
    await subject.warehouse.skip(gaps, {TOPIC: "b"})
    assert await subject.warehouse.positions() == {
        P0: Position(3, 2, "b", 2, 8),  # what begins anew is of a later incarnation
        P1: Position(0, 2, "b", 1, 0),
    }


async def test_of_two_loaders_at_a_gap_one_skips_it(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 4, P1: 2})
    gaps = [Gap(P1, "deleted", 2, Bounds(9, 20)), Gap(P0, "deleted", 4, Bounds(9, 20))]
    await subject.second().skip(gaps[1:], {})
    with pytest.raises(AnotherLoaderAhead):
        await subject.warehouse.skip(gaps, {})
    assert (await subject.warehouse.positions())[P1] == Position(2, 1)  # all or none


async def test_a_topics_id_is_noted_where_it_is_not_known(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 4})
    await subject.warehouse.identify({TOPIC: "a", "sendtrace.rollups": "c"})
    await subject.warehouse.adopt({P1: 2})
    await subject.warehouse.identify({TOPIC: "b"})
    assert await subject.warehouse.positions() == {P0: Position(4, 1, "a"), P1: Position(2, 1, "b")}


# -- facts, fragments, rollups, inbound --------------------------------------------------------


async def test_a_messages_facts_are_kept_exactly_and_replaced_with_its_row(
    subject: Subject,
) -> None:
    await subject.warehouse.adopt({P0: 0})
    first = [event("m1", "delivered"), event("m1", "submitted"), event("m2", "submitted")]
    await write(subject.warehouse, [row("m1", 3), row("m2", 4)], step=(0, 5), events=first)
    assert await subject.rows(EVENTS) == first
    changed = event("m1", "submitted", price=None, arrived_at=7)
    # `delivered` of m1 is gone (more than 64 facts came), `read` is new, m2 is as it was.
    later = [event("m1", "read"), changed]
    await write(subject.warehouse, [row("m1", 5)], step=(5, 6), events=later)
    assert await subject.rows(EVENTS) == [*later, first[2]]


async def test_an_earlier_row_brings_no_facts(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    newest = [event("m1", "delivered")]
    await write(subject.warehouse, [row("m1", 7)], step=(0, 8), events=newest)
    earlier = [event("m1", "submitted")]
    await write(subject.warehouse, [row("m1", 6)], step=(8, 8), events=earlier)
    assert await subject.rows(EVENTS) == newest


async def test_the_facts_of_the_forgotten_go_too(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    facts = [event("m1", "submitted"), event("m2", "submitted")]
    await write(subject.warehouse, [row("m1", 3), row("m2", 6)], step=(0, 7), events=facts)
    await write(subject.warehouse, deletions=[deletion("m1", 8), deletion("m2", 5)], step=(7, 9))
    assert await subject.rows(EVENTS) == facts[1:]


def fragment(message_id: str, offset: int, **known: object) -> Row:
    """Knows nothing but what is given, and what no row is without."""
    needed: dict[str, object] = {
        "message_id": message_id, "fragment": True, "outcome": "pending", "is_final": False,
        "traffic": "live", "flags": (), "topic_epoch": 1, "source_partition": 0,
        "source_offset": offset,
    }  # fmt: skip
    return tuple((needed | known).get(name) for name in MESSAGES.names)


def known(stored: Row) -> dict[str, object]:
    return dict(zip(MESSAGES.names, stored, strict=True))


async def test_a_fragment_fills_in_and_takes_nothing_away(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    whole = row(
        "m1", 3, outcome="unconfirmed", is_final=False, network_final=None, flags=("overdue",),
        cost=None, currency=None, first_event_at=50, last_event_at=60,
    )  # fmt: skip
    facts = [event("m1", "submitted")]
    await write(subject.warehouse, [whole], step=(0, 4), events=facts)
    late = fragment(
        "m1", 9, outcome="delivered", is_final=True, is_open=False, delivered_at=90,
        network_final="23410", recipient="another", cost=5, currency="EUR", flags=("late",),
        first_event_at=90, last_event_at=90, status_last="delivered",
    )  # fmt: skip
    came = [event("m1", "delivered")]
    await write(subject.warehouse, [late], step=(4, 10), events=came)
    [stored] = await subject.rows()
    expected = known(whole) | {
        # What it knew not, and all that belongs to the outcome.
        "network_final": "23410", "cost": 5, "currency": "EUR", "currency_source": None,
        "cost_source": None, "outcome": "delivered", "is_final": True, "is_open": False,
        "outcome_at": None, "outcome_clock": None, "status_last": "delivered", "code": None,
        "category": None, "error_instance": None, "last_event_at": 90,
        "flags": ("late", "overdue"), "source_offset": 9,
    }  # fmt: skip
    assert known(stored) == expected
    assert await subject.rows(EVENTS) == [came[0], facts[0]]


FINAL = {"failed", "rejected", "delivered", "read"}
# Of the row, of the fragment, and which of the two stays.
OUTCOMES = [
    ("failed", "pending", "failed"),
    ("failed", "rejected", "failed"),
    ("failed", "delivered", "delivered"),
    ("missing", "unconfirmed", "missing"),
    ("missing", "failed", "failed"),
    ("delivered", "failed", "delivered"),
    ("delivered", "read", "read"),
    ("read", "delivered", "read"),
]


async def test_when_a_fragments_outcome_counts(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    rows = [
        row(f"m{n}", 3, outcome=outcome, is_final=outcome in FINAL)
        for n, (outcome, _, _) in enumerate(OUTCOMES)
    ]
    fragments = [
        fragment(f"m{n}", 9, outcome=outcome, is_final=outcome in FINAL)
        for n, (_, outcome, _) in enumerate(OUTCOMES)
    ]
    await write(subject.warehouse, rows, step=(0, 4))
    await write(subject.warehouse, fragments, step=(4, 10))
    stored = [known(each)["outcome"] for each in await subject.rows()]
    assert stored == [outcome for _, _, outcome in OUTCOMES]


async def test_a_fragment_alone_is_a_row_that_goes_on(subject: Subject) -> None:
    """Of the same fragment, some facts later: pending must not stay for ever."""
    await subject.warehouse.adopt({P0: 0})
    await write(subject.warehouse, [fragment("m1", 3, is_open=True, segments=2)], step=(0, 4))
    done = fragment("m1", 4, outcome="unconfirmed", is_open=False, network_final="23410")
    await write(subject.warehouse, [done], step=(4, 5))
    [stored] = await subject.rows()
    assert known(stored) == known(done) | {"segments": 2}
    whole = row("m1", 5)
    await write(subject.warehouse, [whole], step=(5, 6))
    assert await subject.rows() == [whole]


async def test_after_an_erasure_a_fragment_begins_with_nothing(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    facts = [event("m1", "submitted")]
    await write(subject.warehouse, [row("m1", 3)], step=(0, 4), events=facts)
    anew = fragment("m1", 9, outcome="delivered", is_final=True)
    came = [event("m1", "delivered")]
    await write(subject.warehouse, [anew], [deletion("m1", 8)], step=(4, 10), events=came)
    assert await subject.rows() == [anew]
    assert await subject.rows(EVENTS) == came


@pytest.mark.parametrize("rule", [OF_MESSAGES, OF_ROLLUPS], ids=["messages", "rollups"])
async def test_fragments_merge_as_the_pure_rule_says(subject: Subject, rule: Rule) -> None:
    """Random rows: each value of each column is known, unknown or another one."""
    random_ = random.Random(7)
    old = [random_row(random_, rule.table, f"m{n:03}", 1) for n in range(300)]
    new = [random_row(random_, rule.table, f"m{n:03}", 2, fragment=True) for n in range(300)]
    await subject.warehouse.adopt({P0: 0})
    for step, rows in enumerate((old, new)):
        changes = Changes(messages=rows) if rule is OF_MESSAGES else Changes(rollups=rows)
        await subject.warehouse.write(changes, {P0: step}, {P0: step + 1})
    expected = [merged(rule, *pair) for pair in zip(old, new, strict=True)]
    assert await subject.rows(rule.table) == expected


def random_row(
    random_: random.Random, table: Table, key: str, offset: int, fragment: bool | None = None
) -> Row:
    outcome = random_.choice(["pending", "failed", "delivered", "read", "missing"])
    never_null = {
        "fragment": random_.random() < 0.5 if fragment is None else fragment,
        "outcome": outcome,
        "is_final": outcome in FINAL,
        "is_open": outcome == "pending",
        "traffic": random_.choice(["live", "test"]),
        "flags": tuple(sorted(random_.sample(["late", "overdue", "truncated"], 2))),
        "kind": "parts", "known": 1, "delivered": 0, "truncated": False,
    }  # fmt: skip
    start = filled(table, **{table.key[0]: key}, source_offset=offset)
    values = dict(zip(table.names, start, strict=True))
    for column in table.columns[1:-3]:
        if column.name in never_null:
            values[column.name] = never_null[column.name]
        elif random_.random() < 0.5:
            values[column.name] = None
        elif column.kind not in ("text", "boolean"):
            values[column.name] = random_.randint(0, 10**6)
    return tuple(values.values())


async def test_rollups_are_kept_exactly_replaced_and_forgotten(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    rows = [rollup("s1", 1), rollup("s2", 2, cost=None, currency=None, expected=None)]
    await subject.warehouse.write(Changes(rollups=rows), {P0: 0}, {P0: 3})
    assert await subject.rows(ROLLUPS) == rows
    later = rollup("s1", 5, outcome="partial")
    changes = Changes(rollups=[later, rollup("s2", 1)], rollup_deletions=[deletion("s2", 4)])
    await subject.warehouse.write(changes, {P0: 3}, {P0: 6})
    assert await subject.rows(ROLLUPS) == [later, rollup("s2", 1)]
    await subject.warehouse.write(
        Changes(rollup_deletions=[deletion("s1", 4), deletion("s2", 7)]), {P0: 6}, {P0: 8}
    )
    assert await subject.rows(ROLLUPS) == [later]


async def test_a_repeat_of_an_inbound_message_changes_nothing(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0})
    rows = [inbound("i1", 1, 4), inbound("i1", 2, 5, text=None), inbound("i2", 1, 6)]
    await subject.warehouse.write(Changes(inbound=rows), {P0: 0}, {P0: 7})
    assert await subject.rows(INBOUND) == rows
    again = [inbound("i1", 1, 8, sender="another"), inbound("i3", 1, 9)]
    await subject.warehouse.write(Changes(inbound=again), {P0: 7}, {P0: 10})
    assert await subject.rows(INBOUND) == [*rows, again[1]]
    rebuilt = inbound("i1", 1, 0, topic_epoch=2, sender="another")
    await subject.warehouse.write(Changes(inbound=[rebuilt]), {P0: 10}, {P0: 11})
    assert await subject.rows(INBOUND) == [rebuilt, *rows[1:], again[1]]


async def test_what_is_older_than_the_retention_goes_in_bounded_steps(subject: Subject) -> None:
    day_us = 86_400_000_000
    await subject.warehouse.adopt({P0: 0})
    rows = [
        row("m1", 1, sent_at=day_us, first_event_at=9 * day_us),
        row("m2", 2, sent_at=2 * day_us),
        row("m3", 3, sent_at=None, first_event_at=day_us),
        row("m4", 4, sent_at=9 * day_us, first_event_at=day_us),
    ]
    came = [inbound("i1", 1, 5, arrived_at=day_us), inbound("i2", 1, 6, arrived_at=9 * day_us)]
    facts = [event("m1", "submitted"), event("m4", "submitted")]
    changes = Changes(messages=rows, events=facts, inbound=came)
    await subject.warehouse.write(changes, {P0: 0}, {P0: 7})
    before = datetime(1970, 1, 8, tzinfo=UTC)
    assert 0 < await subject.warehouse.purge(before, 1) <= 3  # at most one of a kind
    while await subject.warehouse.purge(before, 1):
        pass
    assert await subject.rows() == rows[3:]
    assert await subject.rows(EVENTS) == facts[1:]
    assert await subject.rows(INBOUND) == came[1:]


# -- PostgreSQL alone --------------------------------------------------------------------------


async def test_migrates_once_also_when_two_do_it_at_once(postgres_dsn: str) -> None:
    names = [migration.name for migration in migrations()]
    applied = await asyncio.gather(migrate(postgres_dsn), migrate(postgres_dsn))
    assert sorted(applied) == [[], names]
    assert await migrate(postgres_dsn) == []


async def test_an_applied_migration_that_was_edited_is_refused(postgres_dsn: str) -> None:
    await migrate(postgres_dsn)
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("update schema_migrations set sha256 = 'edited'")
    await connection.close()
    with pytest.raises(MigrationError, match=r"0001_first\.sql"):
        await migrate(postgres_dsn)


async def test_every_table_and_column_is_explained_in_the_database(postgres_dsn: str) -> None:
    await migrate(postgres_dsn)
    connection = await asyncpg.connect(postgres_dsn)
    unexplained = await connection.fetch(
        """
        select c.relname, a.attname from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum >= 0 and not a.attisdropped
        where c.relkind in ('r', 'v') and c.relnamespace = 'public'::regnamespace
          and (obj_description(c.oid) is null or col_description(c.oid, a.attnum) is null)
        """
    )
    await connection.close()
    assert unexplained == []


async def test_without_tables_it_says_what_to_run(postgres_dsn: str) -> None:
    warehouse = PostgresWarehouse(postgres_dsn)
    with pytest.raises(SchemaMissing, match="sendtrace migrate"):
        await warehouse.positions()
    with pytest.raises(SchemaMissing, match="sendtrace migrate"):
        await write(warehouse, [row("m1", 1)])
    await warehouse.close()


async def test_a_server_that_is_not_there_is_away() -> None:
    warehouse = PostgresWarehouse(NOWHERE)
    with pytest.raises(WarehouseAway):
        await warehouse.positions()
    with pytest.raises(WarehouseAway, match=r"does not answer.*sendtrace doctor"):
        async with short_session(NOWHERE, "test"):
            pass


async def test_a_connection_that_breaks_in_the_middle_leaves_nothing_behind(
    postgres_subject: PostgresSubject,
) -> None:
    """The writer has its rows staged and the position moved, and waits for a lock, when it ends."""
    warehouse = postgres_subject.warehouse
    await warehouse.adopt({P0: 0})
    blocker = await asyncpg.connect(postgres_subject.dsn)
    async with blocker.transaction():
        await blocker.execute("lock table messages")
        writing = asyncio.create_task(write(warehouse, [row("m1", 3)]))
        async with asyncio.timeout(60):
            while not await blocker.fetchval("select count(*) from pg_locks where not granted"):
                await asyncio.sleep(0.01)
        await postgres_subject.break_connection()
        with pytest.raises(WarehouseAway):
            await writing
    await blocker.close()
    assert await postgres_subject.rows() == []
    await write(warehouse, [row("m1", 3)])
    assert await postgres_subject.rows() == [row("m1", 3)]


async def test_after_a_failover_it_connects_anew(postgres_subject: PostgresSubject) -> None:
    """A connection to what has become a standby stays open, and read-only for ever."""
    warehouse = postgres_subject.warehouse
    await warehouse.adopt({P0: 0})
    assert warehouse._connection is not None
    await warehouse._connection.execute("set default_transaction_read_only = on")
    with pytest.raises(WarehouseAway):
        await write(warehouse, [row("m1", 3)])
    await write(warehouse, [row("m1", 3)])
    assert await postgres_subject.rows() == [row("m1", 3)]


async def test_works_on_a_newer_schema(postgres_dsn: str) -> None:
    await migrate(postgres_dsn)
    await ask(postgres_dsn, "alter table messages add mood text not null default 'unknown'")
    warehouse = PostgresWarehouse(postgres_dsn)
    await warehouse.adopt({P0: 0})
    await write(warehouse, [row("m1", 1)])
    await warehouse.close()


async def test_tables_of_an_older_version_are_to_be_migrated(postgres_dsn: str) -> None:
    await migrate_to(postgres_dsn, 5)
    warehouse = PostgresWarehouse(postgres_dsn)
    with pytest.raises(SchemaMissing, match="sendtrace migrate"):
        await warehouse.positions()
    await warehouse.close()


async def migrate_to(dsn: str, number: int) -> None:
    """As the version that had so many migrations left it."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(migrating._TABLE)
    for migration in migrations()[:number]:
        await migrating._apply(connection, migration)
    await connection.close()


async def test_the_first_versions_rows_and_loader_live_on(postgres_dsn: str) -> None:
    """A loader names the columns that it knows; all later ones may be left out."""
    await migrate_to(postgres_dsn, 1)
    first_loaders = (
        "insert into messages (message_id, outcome, is_final, topic_epoch, source_partition, "
        "source_offset) values ($$%s$$, $$pending$$, false, 1, 0, 3)"
    )
    await ask(postgres_dsn, first_loaders % "m1")
    assert await migrate(postgres_dsn) == [migration.name for migration in migrations()[1:]]
    await ask(postgres_dsn, first_loaders % "m2")
    found = await ask(postgres_dsn, "select traffic, direction, category from messages")
    assert [tuple(each) for each in found] == [("live", "outbound", None)] * 2
    subject = PostgresSubject(postgres_dsn)
    await subject.warehouse.adopt({P0: 0})
    await write(subject.warehouse, [row("m1", 4), row("m2", 5)])
    await subject.warehouse.close()
    assert await subject.rows() == [row("m1", 4), row("m2", 5)]


RULES_OF_THE_TABLE = {
    "check": "alter table messages add check (sender <> 'bad')",
    "trigger": """
        do $do$ begin
            create function refuse() returns trigger language plpgsql
                as $$ begin raise exception 'not this one'; end $$;
            create trigger refuse before insert on messages
                for each row when (new.sender = 'bad') execute function refuse();
        end $do$""",
}


@pytest.mark.parametrize("rule", RULES_OF_THE_TABLE.values(), ids=RULES_OF_THE_TABLE)
async def test_rows_against_a_rule_of_the_table_are_refused_whole(
    postgres_subject: PostgresSubject, rule: str
) -> None:
    warehouse = postgres_subject.warehouse
    await warehouse.adopt({P0: 0})
    await ask(postgres_subject.dsn, rule)
    with pytest.raises(RowsRefused):
        await write(warehouse, [row("m1", 3), row("m2", 4, sender="bad")])
    assert await postgres_subject.rows() == []
    assert await warehouse.positions() == {P0: Position(0, 1)}
    await write(warehouse, [row("m1", 3)])
    assert await postgres_subject.rows() == [row("m1", 3)]


async def test_rollups_older_than_the_retention_go(postgres_subject: PostgresSubject) -> None:
    warehouse = postgres_subject.warehouse
    await warehouse.adopt({P0: 0})
    rows = [rollup("s1", 1), rollup("s2", 2)]
    await warehouse.write(Changes(rollups=rows), {P0: 0}, {P0: 3})
    await ask(postgres_subject.dsn, "update rollups set updated_at = '2020-01-01' where id = 's1'")
    assert await warehouse.purge(datetime(2021, 1, 1, tzinfo=UTC), 10) == 1
    assert await postgres_subject.rows(ROLLUPS) == rows[1:]


async def test_the_loader_before_this_one_works_and_what_it_forgets_is_forgotten(
    postgres_subject: PostgresSubject,
) -> None:
    """It knows neither facts nor fragments, and deletes rows of `messages` alone."""
    await postgres_subject.warehouse.adopt({P0: 0})
    facts = [event("m1", "submitted")]
    await write(postgres_subject.warehouse, [row("m1", 3)], events=facts)
    others = ", ".join(n for n in MESSAGES.names if n not in ("message_id", "fragment"))
    copy = f"insert into messages (message_id, {others}) select 'm2', {others} from messages"
    await ask(postgres_subject.dsn, copy)
    assert len(await postgres_subject.rows()) == 2
    await ask(postgres_subject.dsn, "delete from messages where message_id = 'm1'")
    assert await postgres_subject.rows(EVENTS) == []


async def test_the_error_catalogue_is_in_the_database(postgres_dsn: str) -> None:
    await migrate(postgres_dsn)
    await ask(postgres_dsn, "delete from error_codes where code = '9'")
    await migrate(postgres_dsn)
    found = await ask(postgres_dsn, "select family, code, version, lasting from error_codes")
    wanted = [(error.family, error.code, error.version or "", error.lasting) for error in CATALOGUE]
    # Answers of the SMS API that had no readable body.
    wanted += [
        ("sms_send", f"http-{code}", "", lasting)
        for family, code, _, lasting in wanted if family == "problem" and "#" not in code
    ]  # fmt: skip
    assert sorted(map(tuple, found)) == sorted(wanted)
    assert all(
        lookup("sms_send", code).lasting == lasting
        for family, code, _, lasting in wanted if family == "sms_send"
    )  # fmt: skip


async def test_a_newer_versions_catalogue_is_left(postgres_dsn: str) -> None:
    await migrate(postgres_dsn)
    await ask(postgres_dsn, "insert into schema_migrations values ('9999_later.sql', 'x')")
    await ask(postgres_dsn, "update error_codes set name = 'newer'")
    await migrate(postgres_dsn)
    [found] = await ask(postgres_dsn, "select distinct name from error_codes")
    assert found["name"] == "newer"


def columns_of_rules() -> set[str]:
    """docs/rules.md 7, with the latencies and clocks that it means."""
    text = """message_id, send_id, part, parts, segments, workflow_id, api, channel, account,
        application, direction, traffic, sender, recipient, country, network_estimated,
        network_final, client_ref, outcome, is_final, outcome_at, outcome_clock, sent_at,
        send_clock, submitted_at, delivered_at, read_at, carrier_latency_ms, deliver_latency_ms,
        accept_latency_ms, read_latency_ms, callback_latency_ms, ingest_lag_ms, receipt_expected,
        status_last, code, category, error_instance, cost, currency, cost_source, encoding,
        message_class, pool_id, entity_id, content_id, template, flags, first_event_at,
        last_event_at, source_partition, source_offset"""
    return {name.strip() for name in text.split(",")}


async def test_messages_has_the_columns_and_indexes_of_the_rules(postgres_dsn: str) -> None:
    await migrate(postgres_dsn)
    columns = await ask(
        postgres_dsn,
        "select column_name from information_schema.columns where table_name = 'messages'",
    )
    assert columns_of_rules() <= {each["column_name"] for each in columns}
    indexes = await ask(postgres_dsn, "select indexdef from pg_indexes")
    for name in ("recipient", "client_ref", "sent_at"):
        assert any(f"messages USING btree ({name})" in each["indexdef"] for each in indexes)


@pytest.fixture
async def logins(postgres_dsn: str) -> AsyncIterator[dict[str, str]]:
    """DSNs of a loader's and a reader's login, as docs/warehouse.md makes them."""
    dsns = {}
    for role in ("loader", "reader"):
        login = f"login_{role}_{os.getpid()}"
        await ask(
            postgres_dsn,
            f"do $$ begin create role sendtrace_{role} nologin; "
            "exception when duplicate_object then null; end $$",
        )
        await ask(postgres_dsn, f"drop role if exists {login}")
        await ask(postgres_dsn, f"create role {login} login in role sendtrace_{role}")
        dsns[role] = re.sub(r"://[^@/]*@?", f"://{login}@", postgres_dsn)
    await migrate(postgres_dsn)
    yield dsns
    for role in dsns:
        await ask(postgres_dsn, f"drop role login_{role}_{os.getpid()}")


async def test_the_loaders_role_does_its_work_and_no_more(
    postgres_dsn: str, logins: dict[str, str]
) -> None:
    warehouse = PostgresWarehouse(logins["loader"])
    await warehouse.remember(Source(TOPIC, "cluster-a"))
    await warehouse.adopt({P0: 0})
    changes = Changes(
        messages=[row("m1", 1), row("m2", 2), fragment("m3", 3)], events=[event("m1", "submitted")],
        rollups=[rollup("s1", 1)], inbound=[inbound("i1", 1, 1)],
    )  # fmt: skip
    await warehouse.write(changes, {P0: 0}, {P0: 4})
    await warehouse.write(changes._replace(deletions=[deletion("m1", 9)]), {P0: 4}, {P0: 5})
    await warehouse.purge(datetime.now(UTC), 1)
    await warehouse.close()
    for forbidden in (
        "drop table messages",
        "truncate messages",
        "alter table messages add mood text",
        "create table mine (id integer)",
        "delete from sink_offsets",
        "delete from error_codes",
        "update schema_migrations set sha256 = 'x'",
        "delete from sink_source",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(logins["loader"], forbidden)


async def test_the_readers_role_reads_everything_and_changes_nothing(
    postgres_dsn: str, logins: dict[str, str]
) -> None:
    views = await ask(
        postgres_dsn,  # the owner sees all there are
        "select table_name from information_schema.tables where table_schema = 'public'",
    )
    names = {each["table_name"] for each in views}
    assert {"messages", "message_events", "delivery_by_cohort", "inbound_messages"} <= names
    for name in names:
        await ask(logins["reader"], f"select * from {name} limit 1")
    for forbidden in (
        "delete from messages",
        "insert into sink_offsets values ('x', 0, 0)",
        "create table mine (id integer)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(logins["reader"], forbidden)


async def test_what_others_have_in_the_schema_is_not_shown(
    postgres_dsn: str, logins: dict[str, str]
) -> None:
    await ask(postgres_dsn, "create table neighbours (secret text)")
    await migrate(postgres_dsn)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(logins["reader"], "select * from neighbours")


async def test_the_owner_of_the_tables_needs_no_right_to_others(
    postgres_dsn: str, logins: dict[str, str]
) -> None:
    owner = f"login_owner_{os.getpid()}"
    await ask(postgres_dsn, f"create role {owner} login")
    await ask(postgres_dsn, f"create schema ours authorization {owner}")
    await ask(postgres_dsn, "create table ours.neighbours (secret text)")
    dsn = re.sub(r"://[^@/]*@?", f"://{owner}@", postgres_dsn)
    try:
        await migrate(f"{dsn}?options=-csearch_path%3Dours")
    finally:
        await ask(postgres_dsn, "drop schema ours cascade")
        await ask(postgres_dsn, f"drop owned by {owner}")
        await ask(postgres_dsn, f"drop role {owner}")


async def test_without_the_roles_nothing_is_granted_and_nothing_fails(postgres_dsn: str) -> None:
    """Renamed roles stand for none: other tests of this server may have made them."""
    sql = files("sinks").joinpath("grants.sql").read_text("utf-8")
    await ask(postgres_dsn, sql.replace("sendtrace_", "no_such_"))
