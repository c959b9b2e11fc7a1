"""Brings the warehouse's schema up to date: the numbered SQL files of ``migrations/``, in order.

Must: apply each file once and whole, whoever else migrates at the same time. A file that was
applied is never edited: later changes are new files, and expand before they contract, so that a
loader one version old works on the new schema. Each time, the error catalogue is brought up to date
and the two roles, where they exist, get what they need (``grants.sql``).
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import asyncpg
from msgspec import Struct
from msgspec.structs import replace

from schemas.vonage.errors import CATALOGUE
from sinks.postgres import connect

# Any number nobody else uses; it is the lock's name within the database.
LOCK = 7_073_368_201

_TABLE = """
create table if not exists schema_migrations (
    name text primary key,
    sha256 text not null,
    applied_at timestamptz not null default now()
);
comment on table schema_migrations is 'Which migrations of sendtrace this database has';
comment on column schema_migrations.name is 'File name in sinks/migrations';
comment on column schema_migrations.sha256 is 'Hash of the file as it was applied';
comment on column schema_migrations.applied_at is 'When it was applied, by the database''s clock';
"""


class MigrationError(Exception):
    """The schema in the database is not one that these migrations made."""


class Migration(Struct, frozen=True):
    """One numbered SQL file."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    folder = files("sinks").joinpath("migrations")
    found = [
        Migration(entry.name, entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.name)


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing; answers the names applied. Migrations of a newer version are left."""
    connection = await connect(dsn)
    try:
        # Held until the connection closes; a second migrator waits here, then finds nothing to do.
        await connection.execute("select pg_advisory_lock($1)", LOCK)
        # A notice for each table that exists already would be noise.
        await connection.execute("set client_min_messages = warning")
        await connection.execute(_TABLE)
        rows = await connection.fetch("select name, sha256 from schema_migrations")
        applied: dict[str, str] = {row["name"]: row["sha256"] for row in rows}
        done = []
        for migration in migrations():
            if _is_missing(migration, applied):
                await _apply(connection, migration)
                done.append(migration.name)
        # A newer version's catalogue and grants are not undone.
        if set(applied) <= {migration.name for migration in migrations()}:
            await _fill_error_codes(connection)
            await connection.execute(files("sinks").joinpath("grants.sql").read_text("utf-8"))
        return done
    finally:
        await connection.close()


def _is_missing(migration: Migration, applied: dict[str, str]) -> bool:
    found = applied.get(migration.name)
    if found is not None and found != migration.sha256:
        raise MigrationError(
            f"{migration.name} is not what was applied to this database: an applied migration is "
            "never edited, changes go into a new file"
        )
    return found is None


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into schema_migrations (name, sha256) values ($1, $2)",
            migration.name,
            migration.sha256,
        )


async def _fill_error_codes(connection: asyncpg.Connection) -> None:
    """The catalogue stands once, in the code; here it comes to where SQL can ask it, with what
    `errors.lookup` makes of an answer that had no readable body."""
    unread = [
        replace(error, family="sms_send", code=f"http-{error.code}")
        for error in CATALOGUE
        if error.family == "problem" and error.code.isdigit()
    ]
    rows = [
        (
            error.family,
            error.code,
            error.version or "",
            error.name,
            error.category,
            error.lasting,
            error.actor,
            error.text,
        )
        for error in (*CATALOGUE, *unread)
    ]
    async with connection.transaction():
        await connection.execute("delete from error_codes")
        await connection.copy_records_to_table("error_codes", records=rows)
