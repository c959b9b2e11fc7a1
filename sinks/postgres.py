"""The warehouse: where rows go together with the offsets they came from, in one transaction.

The port is :class:`Warehouse`; ``tests/fakes/warehouse.py`` passes the same contract tests as the
one on PostgreSQL here. Needs a session of its own (temporary table): no transaction pooler between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

import asyncpg

from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.topics import DependencyAway
from sinks.changes import Deletion
from sinks.rows import COLUMNS, NAMES, Column, Row

CONNECT_TIMEOUT_SECONDS = 10.0
# A batch takes well under a second; a host that vanished without a word must not hang us for ever.
COMMAND_TIMEOUT_SECONDS = 60.0


class WarehouseAway(DependencyAway):
    """The database does not answer, or cannot take this now. Nothing of the call is lost: again."""


class AnotherLoaderAhead(Exception):
    """The saved offsets are not what was expected. Nothing was written: read them anew."""


class SourceChanged(Exception):
    """The saved offsets belong to something else than what is being read. One sentence says so."""


class SchemaMissing(Exception):
    """The tables are not there."""


class Source(NamedTuple):
    """What a topic's offsets belong to. aiokafka 0.14 does not tell topic ids."""

    topic: str
    cluster_id: str
    topic_id: str | None = None


class Position(NamedTuple):
    """The next offset to load, and the topic's incarnation."""

    next: int
    topic_epoch: int


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

    async def write(
        self,
        rows: Sequence[Row],
        deletions: Sequence[Deletion],
        expected: Mapping[Partition, int],
        new: Mapping[Partition, int],
    ) -> None:
        """Write rows and deletions, move the positions from ``expected`` to ``new``: all or none.

        Raises AnotherLoaderAhead if a position is not as expected. A row is replaced, or deleted,
        only by a later version. Each message stands in ``rows`` at most once.
        """
        ...

    async def close(self) -> None: ...


# What a later try may mend: connection, shutdown and start, failover, deadlock, a full disk.
_PASSING = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
)


class PostgresWarehouse:
    """The warehouse on PostgreSQL. One connection, made anew after an error."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None

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
            rows = await connection.fetch(
                "select topic, partition, next, topic_epoch from sink_offsets"
            )
        return {
            Partition(row["topic"], row["partition"]): Position(row["next"], row["topic_epoch"])
            for row in rows
        }

    async def adopt(self, initial: Mapping[Partition, int]) -> None:
        async with self._session() as connection:
            await connection.executemany(
                "insert into sink_offsets (topic, partition, next) values ($1, $2, $3) "
                "on conflict do nothing",
                [(partition.topic, partition.partition, at) for partition, at in initial.items()],
            )

    async def write(
        self,
        rows: Sequence[Row],
        deletions: Sequence[Deletion],
        expected: Mapping[Partition, int],
        new: Mapping[Partition, int],
    ) -> None:
        """See the port. In this order, in one transaction:

        1. COPY the rows into the staging table, which nobody else sees;
        2. move the offsets, if they are as expected: from here on another loader waits, and will
           find that they are not as it expected;
        3. upsert the rows, delete the forgotten;
        4. commit. If its answer is lost, the next try finds the offsets moved, and starts over.
        """
        async with self._session() as connection, connection.transaction():
            if rows:
                await connection.copy_records_to_table(STAGING, records=rows, columns=NAMES)
            await _move(connection, expected, new)
            if rows:
                await connection.execute(UPSERT)
            if deletions:
                await connection.execute(
                    DELETE,
                    [deletion.message_id for deletion in deletions],
                    [deletion.version.topic_epoch for deletion in deletions],
                    [deletion.version.offset for deletion in deletions],
                )

    async def close(self) -> None:
        """Drop the connection. Nothing waits for it: all that counts was committed."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection, made if there is none; what time may mend comes out as WarehouseAway."""
        try:
            if self._connection is None:
                self._connection = await _connect(self._dsn)
            yield self._connection
        except asyncpg.UndefinedTableError as error:
            raise SchemaMissing(
                "The warehouse has no tables of sendtrace: run `sendtrace migrate`"
            ) from error
        except _PASSING as error:
            await self.close()
            raise WarehouseAway(f"PostgreSQL: {type(error).__name__}") from error
        except asyncpg.InterfaceError as error:
            if self._connection is None or not self._connection.is_closed():
                raise  # used wrongly: ours to mend
            await self.close()
            raise WarehouseAway("PostgreSQL: the connection is closed") from error


async def _connect(dsn: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        server_settings={
            "application_name": "sendtrace loader",
            # Offsets and rows are lost or kept together, and what is lost is read again from Kafka:
            # waiting for the disk at each commit would win nothing.
            "synchronous_commit": "off",
            # The plan is always the same and trivial; compiling it costs more than it wins.
            "jit": "off",
        },
    )
    try:
        await connection.execute(CREATE_STAGING)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _move(
    connection: asyncpg.Connection, expected: Mapping[Partition, int], new: Mapping[Partition, int]
) -> None:
    partitions = sorted(new)
    moved = await connection.execute(
        COMPARE_AND_SET,
        [partition.topic for partition in partitions],
        [partition.partition for partition in partitions],
        [expected[partition] for partition in partitions],
        [new[partition] for partition in partitions],
    )
    if moved != f"UPDATE {len(partitions)}":
        raise AnotherLoaderAhead(f"{len(partitions)} positions to move: {moved}")


STAGING = "sendtrace_staging"

COMPARE_AND_SET = """
update sink_offsets as o set next = n.next, updated_at = now()
from unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])
     as n (topic, partition, expected, next)
where o.topic = n.topic and o.partition = n.partition and o.next = n.expected
"""

DELETE = """
delete from messages as m
using unnest($1::text[], $2::bigint[], $3::bigint[]) as d (message_id, topic_epoch, source_offset)
where m.message_id = d.message_id
  and (d.topic_epoch, d.source_offset) > (m.topic_epoch, m.source_offset)
"""


def _staged(column: Column) -> str:
    """The type in the staging table: what the row holds. Integers cost asyncpg the least."""
    stored = {"time_us": "bigint", "money_units": "bigint", "texts": "text[]"}
    return f"{column.name} {stored.get(column.kind, column.kind)}"


def _selected(column: Column) -> str:
    """The stored value from the staged one, exactly."""
    if column.kind == "time_us":
        return f"timestamptz 'epoch' + {column.name} * interval '1 microsecond'"
    if column.kind == "money_units":
        return f"{column.name} * 0.00000001"
    return column.name


def _comma(parts: Iterable[str]) -> str:
    return ", ".join(parts)


# Columns are named everywhere: a newer schema may have more of them.
CREATE_STAGING = (
    f"create temporary table {STAGING} ({_comma(map(_staged, COLUMNS))}) on commit delete rows"
)
UPSERT = f"""
insert into messages ({_comma(NAMES)})
select {_comma(map(_selected, COLUMNS))} from {STAGING}
on conflict (message_id) do update
set {_comma(f"{name} = excluded.{name}" for name in NAMES if name != "message_id")}
where (excluded.topic_epoch, excluded.source_offset)
    > (messages.topic_epoch, messages.source_offset)
"""  # noqa: S608  # names are our own constants
