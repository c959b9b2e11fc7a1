"""What a warehouse promises; the in-memory fake and PostgreSQL answer to the same tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import asyncpg
import pytest

from sendtrace.runtime.kafka import Partition
from sinks.changes import Deletion
from sinks.migrate import MigrationError, migrate, migrations
from sinks.postgres import (
    AnotherLoaderAhead,
    Position,
    PostgresWarehouse,
    SchemaMissing,
    Source,
    SourceChanged,
    Warehouse,
    WarehouseAway,
)
from sinks.rows import (
    COLUMNS,
    MAX_TIME_US,
    MIN_TIME_US,
    NAMES,
    TEXT_LIMIT,
    Column,
    Row,
    Version,
    fits,
)

from fakes.warehouse import MemoryWarehouse

TOPIC = "sendtrace.lifecycles"
P0, P1 = Partition(TOPIC, 0), Partition(TOPIC, 1)


class Subject(Protocol):
    """A warehouse, with what a test needs to look into it and to disturb it."""

    warehouse: Warehouse

    async def rows(self) -> list[Row]: ...
    async def break_connection(self) -> None: ...
    def second(self) -> Warehouse: ...


class MemorySubject:
    def __init__(self) -> None:
        self.warehouse = MemoryWarehouse()

    async def rows(self) -> list[Row]:
        return [self.warehouse.rows[message_id] for message_id in sorted(self.warehouse.rows)]

    async def break_connection(self) -> None:
        self.warehouse.away = 1

    def second(self) -> Warehouse:
        return self.warehouse


class PostgresSubject:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.warehouse = PostgresWarehouse(dsn)
        self.others: list[PostgresWarehouse] = []

    async def rows(self) -> list[Row]:
        """The stored rows, turned back into what the loader handed in."""
        columns = ", ".join(_back(column) for column in COLUMNS)
        found = await ask(self.dsn, f"select {columns} from messages order by message_id")
        return [
            tuple(tuple(value) if isinstance(value, list) else value for value in row)
            for row in found
        ]

    async def break_connection(self) -> None:
        await ask(
            self.dsn,
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'sendtrace loader' and datname = current_database()",
        )
        await asyncio.sleep(0.05)

    def second(self) -> Warehouse:
        self.others.append(PostgresWarehouse(self.dsn))
        return self.others[-1]


async def ask(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


def _back(column: Column) -> str:
    if column.kind == "time_us":
        return f"(extract(epoch from {column.name}) * 1000000)::bigint"
    if column.kind == "money_units":
        return f"({column.name} * 100000000)::bigint"
    return column.name


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


def row(message_id: str, offset: int, epoch: int = 1, **values: object) -> Row:
    """A row in which every column holds something, so that none can be mixed up."""
    made: dict[str, object] = {}
    for index, column in enumerate(COLUMNS):
        match column.kind:
            case "text":
                made[column.name] = f"{column.name} of {message_id}"
            case "boolean":
                made[column.name] = bool(index % 2)
            case "texts":
                made[column.name] = ("late", 'odd "one", {x}')
            case "time_us":
                made[column.name] = 1_738_584_865_123_457 + index
            case _:
                made[column.name] = 1_000 + index
    made |= {"message_id": message_id, "topic_epoch": epoch, "source_partition": 0}
    made |= {"source_offset": offset} | values
    return tuple(made[name] for name in NAMES)


def deletion(message_id: str, offset: int, epoch: int = 1) -> Deletion:
    return Deletion(message_id, Version(epoch, 0, offset))


async def write(
    warehouse: Warehouse,
    rows: Sequence[Row] = (),
    deletions: Sequence[Deletion] = (),
    step: tuple[int, int] = (0, 10),
) -> None:
    await warehouse.write(rows, deletions, {P0: step[0]}, {P0: step[1]})


async def test_begins_without_positions_and_adopts_each_once(subject: Subject) -> None:
    warehouse = subject.warehouse
    assert await warehouse.positions() == {}
    await warehouse.adopt({P0: 4})
    await warehouse.adopt({P0: 9, P1: 7})
    assert await warehouse.positions() == {P0: Position(4, 1), P1: Position(7, 1)}


async def test_rows_and_positions_are_kept_together_and_exactly(subject: Subject) -> None:
    await subject.warehouse.adopt({P0: 0, P1: 0})
    nothing = dict.fromkeys(
        (c.name for c in COLUMNS if c.kind in ("time_us", "money_units")), None
    ) | {"send_id": None, "part": None, "receipt_expected": None, "flags": ()}
    rows = [
        row("m1", 3, cost=-123_456_789),
        row("m2", 4, cost=999_999_999_99999999, read_at=-1),
        row("m3", 5, **nothing),
    ]
    await subject.warehouse.write(rows, [], {P0: 0}, {P0: 6})
    assert await subject.rows() == rows
    assert await subject.warehouse.positions() == {P0: Position(6, 1), P1: Position(0, 1)}


async def test_whatever_fits_is_taken(subject: Subject) -> None:
    """At the bounds of ``fits``, or one message would fail its batch for ever. Texts are such that
    PostgreSQL cannot make them smaller for its index."""
    noise = random.Random(1)
    widest = "".join(chr(noise.randint(0x10000, 0x10FFFF)) for _ in range(TEXT_LIMIT))
    largest = {"text": widest, "integer": -(2**31 - 1), "bigint": -(2**63 - 1), "texts": (widest,)}
    largest |= {"time_us": MAX_TIME_US, "money_units": 1 - 10**18, "boolean": True}
    rows = [tuple(largest[column.kind] for column in COLUMNS), row("m2", 4, sent_at=MIN_TIME_US)]
    assert all(map(fits, rows))
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
        await subject.warehouse.write([row("m2", 3)], [], {P0: 0, P1: 0}, {P0: 9, P1: 9})
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
                    [row(f"m{start}-{index}", start)],
                    [],
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


async def test_remembers_where_it_was_loaded_from(subject: Subject) -> None:
    await subject.warehouse.remember(Source(TOPIC, "cluster-a"))
    await subject.warehouse.remember(Source(TOPIC, "cluster-a"))
    await subject.warehouse.remember(Source("sendtrace.inbound", "cluster-b"))
    with pytest.raises(SourceChanged):
        await subject.warehouse.remember(Source(TOPIC, "cluster-b"))


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
        where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
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
    warehouse = PostgresWarehouse("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(WarehouseAway):
        await warehouse.positions()


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
        async with asyncio.timeout(10):
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


async def test_the_first_versions_rows_and_loader_live_on(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader names the columns that it knows; all later ones may be left out."""
    with monkeypatch.context() as older:
        older.setattr("sinks.migrate.migrations", lambda: migrations()[:1])
        await migrate(postgres_dsn)
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
