"""``sendtrace rebuild``: derives the warehouse's rows from the topics anew, while the loader runs.

For when rows are wrong or missing: a mended decoder, a deleted row, a restored backup. Why it is
made so: docs/decisions/0041. In this order:

1. Make a schema of shadow tables beside the real ones; what a killed run left is dropped.
2. Read the topics from their beginning into the shadow, with the loader's own code, until it has
   caught up. Nobody else sees or waits for any of it.
3. In one transaction: lock the tables against writers (readers go on); read what the loader has
   loaded and the shadow has not; bring the tables to what the shadow says (``statements.swap``).
4. Drop the shadow.

Rows that no topic knows any more stay as they are: most messages were forgotten long ago. The
tables stay the same tables, so that views, grants and triggers on them do, too. Positions are not
touched: the loader goes on where it was, and finds what it reads there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, NamedTuple

import asyncpg
import msgspec
from msgspec import Struct, field

from sendtrace.runtime.kafka import Clients, Consumer, Partition, Record, partitions_of
from sendtrace.runtime.positions import Bounds, Saved, gaps_of
from sendtrace.runtime.reading import open_reader, read_until
from sendtrace.runtime.settings import Settings
from sinks import statements
from sinks.changes import Batch, Changes
from sinks.loader import TOPICS, inbound_reading, require_all_partitions
from sinks.postgres import (
    NOT_MIGRATED,
    PASSING,
    REFUSALS,
    Position,
    RowsRefused,
    SchemaMissing,
    SourceChanged,
    WarehouseAway,
    apply,
    open_session,
    saved_positions,
    stage,
)
from sinks.rows import MESSAGES, ROLLUPS, TABLES, Version

# Any number nobody else uses (migrate has the one before).
LOCK = 7_073_368_202
# A killed run's statement may go on for a moment; the loader's writes take far less.
LOCK_TIMEOUT_SECONDS = 60
# The swap of some ten million rows takes minutes. The loader waits for it, readers do not.
SWAP_TIMEOUT_SECONDS = 3600.0

Stage = Literal["reading", "waiting for the loader", "swapping", "done"]


class RebuildBusy(Exception):
    """Someone else holds what a rebuild needs: another rebuild, or a long transaction."""


class Progress(NamedTuple):
    """How far it is: ``read`` of ``total`` offsets."""

    stage: Stage
    read: int
    total: int


class Report(Struct):
    """What was derived, and what the swap changed."""

    derived: Counter[str] = field(default_factory=Counter)  # rows in the shadow, by table
    changed: Counter[str] = field(default_factory=Counter)  # rows written or deleted, by table
    unusable: Counter[str] = field(default_factory=Counter)  # records, by reason


def as_json(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def as_text(report: Report) -> str:
    """A line for each table, and what could not be used."""
    lines = [f"{'table':<16}{'derived':>12}{'changed':>12}"]
    for table in TABLES:
        derived, changed = report.derived[table.name], report.changed[table.name]
        lines.append(f"{table.name:<16}{derived:>12,}{changed:>12,}")
    for reason, number in sorted(report.unusable.items()):
        lines.append(f"{number:,} records of no use, which the loader has put aside: {reason}")
    return "\n".join(lines)


async def rebuild(
    clients: Clients,
    settings: Settings,
    cluster_id: str,
    told: Callable[[Progress], None] = lambda progress: None,
) -> Report:
    """Do it. Raises SourceChanged where the topics are not those that were loaded, RowsRefused
    where a rule on the tables forbids a row: nothing has changed then. Safe to run again."""
    partitions = [tp for topic in TOPICS for tp in partitions_of(settings, topic)]
    with _foreseen():
        async with (
            _shadow(settings.postgres_dsn) as shadow,
            open_reader(clients, partitions) as reader,
        ):
            saved = await shadow.positions(partitions)
            begins = await reader.beginning_offsets(partitions)
            ends = await reader.end_offsets(partitions)
            await _require_same_source(shadow, settings, cluster_id, saved, begins, ends)
            feed = _Feed(reader, shadow, settings, saved, begins, told)
            await feed.until(ends)
            # What came meanwhile: a little, so that the loader need not wait for much.
            await feed.until(await reader.end_offsets(partitions))
            feed.tell("waiting for the loader")
            async with shadow.locked():
                loaded = await shadow.positions(partitions)
                await feed.until({tp: position.next for tp, position in loaded.items()})
                feed.tell("swapping")
                await shadow.swap(feed.report)
            feed.tell("done")
    return feed.report


async def _require_same_source(
    shadow: _Shadow,
    settings: Settings,
    cluster_id: str,
    saved: Mapping[Partition, Position],
    begins: Mapping[Partition, int],
    ends: Mapping[Partition, int],
) -> None:
    """Offsets are compared with the loader's: they must be of one log. Raises SourceChanged."""
    for topic, known in (await shadow.clusters()).items():
        if known != cluster_id and topic in map(settings.topic, TOPICS):
            raise SourceChanged(
                f"The warehouse was loaded from {topic} of Kafka cluster {known}, but this is "
                f"cluster {cluster_id}: point back at the old one, or load an empty database"
            )
    require_all_partitions(begins, saved)
    bounds = {tp: Bounds(begins[tp], ends[tp]) for tp in begins}
    positions = {tp: Saved(position.next) for tp, position in saved.items()}
    for gap in gaps_of(positions, bounds, {}):
        raise SourceChanged(f"{gap}. The loader says what to do: start it, and see that it runs")


class _Feed:
    """Reads the topics into the shadow, by and by."""

    def __init__(
        self,
        reader: Consumer,
        shadow: _Shadow,
        settings: Settings,
        saved: Mapping[Partition, Position],
        begins: Mapping[Partition, int],
        told: Callable[[Progress], None],
    ) -> None:
        self.report = Report()
        self._reader = reader
        self._shadow = shadow
        self._reading = inbound_reading(settings)
        self._limit_records = settings.loader_batch_records
        self._epochs = {tp: position.topic_epoch for tp, position in saved.items()}
        self._begins = begins
        self._next = dict(begins)
        self._ends = dict(begins)
        self._told = told
        self._names = {settings.topic(name): name for name in TOPICS}
        self._batch = Batch(self._reading)

    async def until(self, ends: Mapping[Partition, int]) -> None:
        """Everything before these offsets is in the shadow afterwards."""
        self._ends = {tp: max(end, self._next[tp]) for tp, end in ends.items()}
        async for partition, records in read_until(self._reader, self._ends):
            self._add(partition, records)
            self._next[partition] = records[-1].offset + 1
            if self._batch.fed >= self._limit_records:
                await self._flush()
                self.tell("reading")
        await self._flush()
        self._next.update(self._ends)
        self.tell("reading")

    def tell(self, stage: Stage) -> None:
        read = sum(self._next.values()) - sum(self._begins.values())
        total = sum(self._ends.values()) - sum(self._begins[tp] for tp in self._ends)
        self._told(Progress(stage, read, max(read, total)))

    def _add(self, partition: Partition, records: Sequence[Record]) -> None:
        name, epoch = self._names[partition.topic], self._epochs.get(partition, 1)
        for record in records:
            version = Version(epoch, partition.partition, record.offset)
            unusable = self._batch.add(name, record, version)
            if unusable is not None:
                # The loader has it in quarantine.
                self.report.unusable[unusable.reason] += 1

    async def _flush(self) -> None:
        if self._batch.fed:
            await self._shadow.write(self._batch.changes())
            self._batch = Batch(self._reading)


class _Shadow:
    """The shadow tables, and the one connection that sees to them and to the swap."""

    def __init__(self, connection: asyncpg.Connection, place: str, schema: str) -> None:
        self._connection = connection
        self._place = place
        self._schema = schema

    async def make(self) -> None:
        """New and empty. Not logged: they are dropped after a crash in any case."""
        place, schema = self._place, self._schema
        await self.drop()
        await self._connection.execute(f"create schema {schema}")
        for table in TABLES:
            name = f"{schema}.{table.name}"
            await self._connection.execute(
                f"create unlogged table {name} (like {place}.{table.name} including defaults, "
                f"primary key ({', '.join(table.key)}))"
            )
        await self._connection.execute(
            f"create unlogged table {schema}.gone (kind text, key text, primary key (kind, key));"
            f"create trigger delete_message_events after delete on {schema}.{MESSAGES.name} "
            "referencing old table as deleted for each statement "
            f"execute function {place}.delete_message_events()"
        )
        await self._connection.execute(f"set search_path to {schema}, {place}")

    async def drop(self) -> None:
        await self._connection.execute(f"drop schema if exists {self._schema} cascade")

    async def clusters(self) -> dict[str, str]:
        rows = await self._connection.fetch(
            f"select topic, cluster_id from {self._place}.sink_source"  # noqa: S608
        )
        return {row["topic"]: row["cluster_id"] for row in rows}

    async def positions(self, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """How far the loader is."""
        found = await saved_positions(self._connection, f"{self._place}.sink_offsets")
        return {tp: found[tp] for tp in partitions if tp in found}

    async def write(self, changes: Changes) -> None:
        """As the loader writes; and note what is forgotten, for the swap to delete."""
        gone = [(MESSAGES.name, deletion.key) for deletion in changes.deletions]
        gone += [(ROLLUPS.name, deletion.key) for deletion in changes.rollup_deletions]
        # Inside the lock it is a savepoint: staging is emptied at the end of the transaction alone.
        async with self._connection.transaction():
            for table in TABLES:
                await self._connection.execute(f"truncate {statements.staging(table)}")
            await stage(self._connection, changes)
            await self._connection.executemany(
                "insert into gone (kind, key) values ($1, $2) on conflict do nothing", gone
            )
            await apply(self._connection, changes)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """One transaction in which nobody else writes to the tables. The offsets come first, as in
        the loader's own transactions."""
        names = ("sink_offsets", *(table.name for table in TABLES))
        tables = ", ".join(f"{self._place}.{name}" for name in names)
        for table in TABLES:  # or the plans would be those of empty tables
            await self._connection.execute(f"analyze {self._schema}.{table.name}")
        async with self._connection.transaction():
            await self._connection.execute(f"lock table {tables} in share row exclusive mode")
            yield

    async def swap(self, report: Report) -> None:
        for table in TABLES:
            count = f"select count(*) from {self._schema}.{table.name}"  # noqa: S608
            report.derived[table.name] = await self._connection.fetchval(count)
        await self._connection.execute(f"set local search_path to {self._place}")
        for table_name, statement in statements.swap(self._schema):
            done = await self._connection.execute(statement)
            report.changed[table_name] += int(done.rpartition(" ")[2])


@asynccontextmanager
async def _shadow(dsn: str) -> AsyncIterator[_Shadow]:
    """The shadow, made anew; dropped at the end, however that comes, but for a kill."""
    connection = await open_session(
        dsn,
        "sendtrace rebuild",
        command_timeout_seconds=SWAP_TIMEOUT_SECONDS,
        lock_timeout=f"{LOCK_TIMEOUT_SECONDS}s",
        client_connection_check_interval="2s",  # or the statement of a killed run goes on
        client_min_messages="warning",
    )
    try:
        await connection.execute("select pg_advisory_lock($1)", LOCK)
        place = await connection.fetchval("select quote_ident(current_schema())")
        schema = await connection.fetchval("select quote_ident(current_schema() || '_rebuild')")
        shadow = _Shadow(connection, place, schema)
        await shadow.make()
        yield shadow
        await shadow.drop()
    finally:
        # What is left after an error the next run drops: here it could only hide that error.
        connection.terminate()


@contextmanager
def _foreseen() -> Iterator[None]:
    """What PostgreSQL says, in the words of the warehouse."""
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        raise RebuildBusy(
            "Another rebuild runs, or a transaction holds the tables: end it, and run this again"
        ) from error
    except NOT_MIGRATED as error:
        raise SchemaMissing from error
    except REFUSALS as error:
        raise RowsRefused(
            f"The database refuses a row that follows from the topics ({type(error).__name__}): "
            "look for a rule on the tables that is not ours. Nothing was changed"
        ) from error
    except PASSING as error:
        raise WarehouseAway(
            f"PostgreSQL: {type(error).__name__}. Nothing was changed; run it again"
        ) from error
