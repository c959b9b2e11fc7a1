"""The warehouse: where rows go together with the offsets they came from, in one transaction.

The port is :class:`Warehouse`; ``tests/fakes/warehouse.py`` passes the same contract tests as the
one on PostgreSQL here. Needs a session of its own (temporary table): no transaction pooler between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import asyncpg

from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.positions import Gap
from sendtrace.runtime.settings import SettingsError
from sendtrace.runtime.topics import DependencyAway
from sinks import statements
from sinks.changes import Changes, Deletion
from sinks.rows import FRAGMENT, MESSAGES, ROLLUPS, TABLES, Table

CONNECT_TIMEOUT_SECONDS = 10.0
# A batch takes well under a second; a host that vanished without a word must not hang us for ever.
COMMAND_TIMEOUT_SECONDS = 60.0


class WarehouseAway(DependencyAway):
    """The database does not answer, or cannot take this now. Nothing of the call is lost: again."""


class AnotherLoaderAhead(Exception):
    """The saved offsets are not what was expected. Nothing was written: read them anew."""


class RowsRefused(Exception):
    """The database does not take some row of the write, and never will. Nothing was written."""


class SourceChanged(Exception):
    """The saved offsets belong to something else than what is being read. One sentence says so."""


class SchemaMissing(Exception):
    """The tables are not there, or are those of an older version."""

    def __init__(self) -> None:
        super().__init__("The warehouse has no tables of this version: run `sendtrace migrate`")


class Source(NamedTuple):
    """What a topic's offsets belong to. Its own id stands beside each position."""

    topic: str
    cluster_id: str
    topic_id: str | None = None


class Position(NamedTuple):
    """The next offset to load, the topic's incarnation, and what was skipped so far."""

    next: int
    topic_epoch: int
    topic_id: str | None = None  # not known before `identify`
    gaps: int = 0
    gap_records: int = 0


class Warehouse(Protocol):
    """Rows and offsets that change together. Every call may raise WarehouseAway."""

    async def remember(self, source: Source) -> None:
        """Record the source at the first time; later SourceChanged if it is another."""
        ...

    async def positions(self) -> dict[Partition, Position]:
        """How far the rows are, for every partition that was ever adopted."""
        ...

    async def adopt(self, initial: Mapping[Partition, int]) -> None:
        """Begin with partitions that have no position yet; a position that exists stays."""
        ...

    async def identify(self, topic_ids: Mapping[str, str]) -> None:
        """Note which topic positions are of, by its full name, where that is not known yet."""
        ...

    async def skip(self, gaps: Sequence[Gap], topic_ids: Mapping[str, str]) -> None:
        """Go on after the gaps, and count them: all or none.

        Raises AnotherLoaderAhead if a position is not where the gap was found.
        """
        ...

    async def write(
        self,
        changes: Changes,
        expected: Mapping[Partition, int],
        new: Mapping[Partition, int],
    ) -> None:
        """Write the changes, move the positions from ``expected`` to ``new``: all or none.

        Raises AnotherLoaderAhead if a position is not as expected, RowsRefused if the database
        takes not all rows. A row is replaced, or deleted, only by a later version; a message's
        facts change with its row.
        """
        ...

    async def purge(self, before: datetime, limit: int) -> int:
        """Delete rows older than that, at most ``limit`` of a kind; answers how many."""
        ...

    async def close(self) -> None: ...


# What a later try may mend: connection, shutdown and start, failover, deadlock, a full disk.
PASSING = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
    # The server said why it goes, or went as a COPY began: asyncpg loses its place in the protocol.
    # Its connection is used by one at a time, so it is no use of ours.
    asyncpg.InternalClientError,
)
# `sendtrace migrate` has not run, or that of an older version.
NOT_MIGRATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
# What lies in the row: its values, or a rule that someone put on the table.
REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # a key too long for an index
    asyncpg.PLPGSQLError,  # a trigger raises an exception
)


class PostgresWarehouse:
    """The warehouse on PostgreSQL. One connection, made anew after an error."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()  # writing and purging take turns: one connection does one thing

    async def remember(self, source: Source) -> None:
        async with self._session() as connection:
            await connection.execute(
                "insert into sink_source (topic, cluster_id, topic_id) values ($1, $2, $3) "
                "on conflict (topic) do nothing",
                *source,
            )
            row = await connection.fetchrow(
                "select topic, cluster_id, topic_id from sink_source where topic = $1",
                source.topic,
            )
            assert row is not None
            known = Source(*row)
        if known != source:
            raise SourceChanged(
                f"The warehouse was loaded from {known.topic} of Kafka cluster {known.cluster_id}, "
                f"but this is cluster {source.cluster_id}: offsets of the one mean nothing in the "
                "other; point back at the old one, or load an empty database"
            )

    async def positions(self) -> dict[Partition, Position]:
        async with self._session() as connection:
            return await saved_positions(connection)

    async def adopt(self, initial: Mapping[Partition, int]) -> None:
        async with self._session() as connection:
            await connection.executemany(
                "insert into sink_offsets (topic, partition, next) values ($1, $2, $3) "
                "on conflict do nothing",
                [(partition.topic, partition.partition, at) for partition, at in initial.items()],
            )

    async def identify(self, topic_ids: Mapping[str, str]) -> None:
        async with self._session() as connection:
            await connection.executemany(
                "update sink_offsets set topic_id = $2 where topic = $1 and topic_id is null",
                list(topic_ids.items()),
            )

    async def skip(self, gaps: Sequence[Gap], topic_ids: Mapping[str, str]) -> None:
        async with self._session() as connection, connection.transaction():
            for gap in gaps:
                topic, partition = gap.partition
                moved = await connection.execute(
                    statements.SKIP,
                    topic,
                    partition,
                    gap.saved,
                    gap.next,
                    topic_ids.get(topic),
                    int(gap.starts_anew),
                    gap.records,
                )
                if moved != "UPDATE 1":
                    raise AnotherLoaderAhead(f"{topic}-{partition} is not at {gap.saved} any more")

    async def write(
        self,
        changes: Changes,
        expected: Mapping[Partition, int],
        new: Mapping[Partition, int],
    ) -> None:
        """See the port. In this order, in one transaction:

        1. COPY the rows into the staging tables, which nobody else sees;
        2. move the offsets, if they are as expected: from here on another loader waits, and will
           find that they are not as it expected;
        3. delete the forgotten, then upsert the rows: what begins anew begins with nothing;
        4. commit. If its answer is lost, the next try finds the offsets moved, and starts over.
        """
        async with self._session() as connection, connection.transaction():
            await stage(connection, changes)
            await _move(connection, expected, new)
            await apply(connection, changes)

    async def purge(self, before: datetime, limit: int) -> int:
        deleted = 0
        for statement in statements.PURGES:
            async with self._session() as connection:
                done = await connection.execute(statement, before, limit)
            deleted += int(done.removeprefix("DELETE "))
        return deleted

    async def close(self) -> None:
        """Drop the connection. Nothing waits for it: all that counts was committed."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection, made if there is none; what time may mend comes out as WarehouseAway."""
        try:
            async with self._turn:
                if self._connection is None:
                    self._connection = await _connect(self._dsn)
                yield self._connection
        except NOT_MIGRATED as error:
            raise SchemaMissing from error
        except REFUSALS as error:
            raise RowsRefused(f"PostgreSQL: {type(error).__name__}") from error
        except PASSING as error:
            await self.close()
            raise WarehouseAway(f"PostgreSQL: {type(error).__name__}") from error
        except asyncpg.InterfaceError as error:
            if self._connection is None or not (
                self._connection.is_closed() or _broke_in_copy(error)
            ):
                raise  # used wrongly: ours to mend
            await self.close()
            raise WarehouseAway("PostgreSQL: the connection is closed") from error


def _broke_in_copy(error: BaseException) -> bool:
    """Whether the server went away as a COPY began: asyncpg loses its own place in the protocol
    (an InternalClientError), fails to roll back, and does not call the connection closed."""
    return isinstance(error.__context__, asyncpg.InternalClientError)


@asynccontextmanager
async def short_session(dsn: str, name: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for one question of a command; what goes wrong is said as of the warehouse."""
    try:
        connection = await connect(
            dsn,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            server_settings={"application_name": name},
        )
        try:
            yield connection
        finally:
            connection.terminate()
    except NOT_MIGRATED as error:
        raise SchemaMissing from error
    except PASSING as error:
        raise WarehouseAway(
            f"PostgreSQL does not answer, or cannot do this now ({type(error).__name__}): "
            "`sendtrace doctor` shows what is away"
        ) from error


async def connect(dsn: str, **options: Any) -> asyncpg.Connection:
    """As asyncpg's. Raises SettingsError for a DSN that is none: the words of whoever parses it may
    hold a part of the password."""
    try:
        return await asyncpg.connect(dsn, **options)
    except ValueError:
        raise SettingsError(
            "SENDTRACE_POSTGRES_DSN is no address of a database: write "
            "postgresql://user:password@host:port/database, with / ? # and @ of the password as "
            "%2F %3F %23 and %40"
        ) from None


async def _connect(dsn: str) -> asyncpg.Connection:
    # Offsets and rows are lost or kept together, and what is lost is read again from Kafka:
    # waiting for the disk at each commit would win nothing.
    return await open_session(dsn, "sendtrace loader", synchronous_commit="off")


async def open_session(
    dsn: str,
    name: str,
    *,
    command_timeout_seconds: float = COMMAND_TIMEOUT_SECONDS,
    **server_settings: str,
) -> asyncpg.Connection:
    """A connection with the staging tables. ``name`` is what pg_stat_activity shows."""
    connection = await connect(
        dsn,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=command_timeout_seconds,
        # The plan is always the same and trivial; compiling it costs more than it wins.
        server_settings={"application_name": name, "jit": "off", **server_settings},
    )
    try:
        for table in TABLES:
            await connection.execute(statements.create_staging(table))
    except BaseException:
        connection.terminate()
        raise
    return connection


async def saved_positions(
    connection: asyncpg.Connection, table: str = "sink_offsets"
) -> dict[Partition, Position]:
    """How far the loader is. ``table`` where the search path does not find it: our own word."""
    columns = ", ".join(Position._fields)
    query = f"select topic, partition, {columns} from {table}"  # noqa: S608
    return {
        Partition(topic, partition): Position(*position)
        for topic, partition, *position in await connection.fetch(query)
    }


async def stage(connection: asyncpg.Connection, changes: Changes) -> None:
    """COPY the rows to where nobody else sees them. They are gone with the transaction."""
    staged = (changes.messages, changes.events, changes.rollups, changes.inbound)
    for table, rows in zip(TABLES, staged, strict=True):
        if rows:
            await connection.copy_records_to_table(
                statements.staging(table), records=rows, columns=table.names
            )


async def apply(connection: asyncpg.Connection, changes: Changes) -> None:
    """Delete the forgotten, then upsert what was staged."""
    await _delete(connection, MESSAGES, changes.deletions)
    await _delete(connection, ROLLUPS, changes.rollup_deletions)
    if changes.messages:
        await connection.execute(statements.WRITE_MESSAGES)
    if any(row[FRAGMENT] for row in changes.messages):
        await connection.execute(statements.WRITE_FRAGMENTS)
    if changes.rollups:
        await connection.execute(statements.WRITE_ROLLUPS)
    if any(row[FRAGMENT] for row in changes.rollups):
        await connection.execute(statements.WRITE_ROLLUP_FRAGMENTS)
    if changes.inbound:
        await connection.execute(statements.WRITE_INBOUND)


async def _move(
    connection: asyncpg.Connection, expected: Mapping[Partition, int], new: Mapping[Partition, int]
) -> None:
    partitions = sorted(new)
    moved = await connection.execute(
        statements.COMPARE_AND_SET,
        [partition.topic for partition in partitions],
        [partition.partition for partition in partitions],
        [expected[partition] for partition in partitions],
        [new[partition] for partition in partitions],
    )
    if moved != f"UPDATE {len(partitions)}":
        raise AnotherLoaderAhead(f"{len(partitions)} positions to move: {moved}")


async def _delete(
    connection: asyncpg.Connection, table: Table, deletions: Sequence[Deletion]
) -> None:
    if deletions:
        await connection.execute(
            statements.delete(table),
            [deletion.key for deletion in deletions],
            [deletion.version.topic_epoch for deletion in deletions],
            [deletion.version.offset for deletion in deletions],
        )
