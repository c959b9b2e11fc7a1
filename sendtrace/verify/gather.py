"""Reads everything once: topics, tables, figures. The shell of `verify`."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import asyncpg

from schemas.topics import PULSES, TOPICS
from sendtrace.local.figures import samples
from sendtrace.runtime.kafka import Clients, Partition, partitions_of
from sendtrace.runtime.reading import open_reader, read_until
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import DependencyAway
from sendtrace.verify.found import Kept, Key, Series
from sinks.postgres import short_session
from sinks.rows import TABLES, Column, Row, Table

# Edges pulse for as long as they live, and no message follows from it.
READ = tuple(topic.name for topic in TOPICS if topic.name != PULSES)
PREFIX = "sendtrace_"
LINES = ("_total", "_bucket", "_count", "_sum")
SCRAPE_TIMEOUT_SECONDS = 10.0


def partitions(settings: Settings) -> list[Partition]:
    """Of every topic that is read: what grows while something is under way."""
    return [tp for name in READ for tp in partitions_of(settings, name)]


async def topics(clients: Clients, settings: Settings) -> dict[str, list[Kept]]:
    """Every committed record up to the end as it is now, in the order of each partition."""
    found: dict[str, list[Kept]] = {name: [] for name in READ}
    async with open_reader(clients, partitions(settings)) as reader:
        ends = await reader.end_offsets(partitions(settings))
        async for tp, records in read_until(reader, ends):
            found[tp.topic.removeprefix(settings.topic_prefix)] += [
                Kept(tp.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
                for r in records
            ]
    return found


async def tables(dsn: str) -> dict[str, dict[Key, Row]]:
    """Every row, with times and money as the integers that the loader staged."""
    async with short_session(dsn, "sendtrace verify") as connection:
        return {table.name: await _rows(connection, table) for table in TABLES}


async def inbound_forgotten(dsn: str) -> frozenset[str]:
    """What `sendtrace forget` noted when it deleted rows of inbound messages."""
    async with short_session(dsn, "sendtrace verify") as connection:
        found = await connection.fetch("select message_id from inbound_forgotten")
    return frozenset(row["message_id"] for row in found)


async def _rows(connection: asyncpg.Connection, table: Table) -> dict[Key, Row]:
    columns = ", ".join(map(_selected, table.columns))
    rows = await connection.fetch(f"select {columns} from {table.name}")  # noqa: S608
    at = [table.names.index(name) for name in table.key]
    return {tuple(row[index] for index in at): tuple(map(_plain, row)) for row in rows}


def _selected(column: Column) -> str:
    """The inverse of what the loader does. Names are our own constants."""
    if column.kind == "time_us":
        return f"(extract(epoch from {column.name}) * 1000000)::bigint"
    if column.kind == "money_units":
        return f"({column.name} * 100000000)::bigint"
    return column.name


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


async def figures(url: str) -> dict[Series, float]:
    """The exporter's page."""
    timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as answer:
            answer.raise_for_status()
            return parsed(await answer.text())
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DependencyAway(f"the exporter does not answer at {url}") from error


def parsed(page: str) -> dict[Series, float]:
    """Our counters and histograms' lines, without prefix and `_total`."""
    return {
        _series(sample.name, sample.labels): sample.value
        for sample in samples(page)
        if sample.name.startswith(PREFIX) and sample.name.endswith(LINES)
    }


def _series(name: str, labels: Mapping[str, str]) -> Series:
    return name.removeprefix(PREFIX).removesuffix("_total"), tuple(sorted(labels.items()))
