"""Reads everything once: topics, tables, figures. The shell of `verify`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import aiohttp
import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from schemas.topics import (
    INBOUND,
    LIFECYCLES,
    PARTS,
    QUARANTINE,
    RECEIPTS,
    ROLLUPS,
    SENDS,
    STATUSES,
    TOTALS,
)
from sendtrace.runtime.kafka import Clients, Partition, partitions_of
from sendtrace.runtime.reading import open_reader
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.topics import DependencyAway
from sendtrace.verify.found import Kept, Key, Series
from sinks.rows import TABLES, Column, Row, Table

READ = (SENDS, STATUSES, RECEIPTS, INBOUND, QUARANTINE, LIFECYCLES, PARTS, ROLLUPS, TOTALS)
PREFIX = "sendtrace_"
READ_TIMEOUT_SECONDS = 60.0
SCRAPE_TIMEOUT_SECONDS = 10.0


async def topics(
    clients: Clients, settings: Settings, names: Iterable[str] = READ
) -> dict[str, list[Kept]]:
    """Every committed record up to the end as it is now, in the order of each partition."""
    partitions = [tp for name in names for tp in partitions_of(settings, name)]
    found: dict[str, list[Kept]] = {name: [] for name in names}
    async with open_reader(clients, partitions) as reader:
        ends = await reader.end_offsets(partitions)
        for tp, begin in (await reader.beginning_offsets(partitions)).items():
            reader.seek(tp, begin)
        reader.resume(*partitions)
        behind = {tp for tp in partitions if await reader.position(tp) < ends[tp]}
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            while behind:
                batches = await reader.getmany(*behind, timeout_ms=100, max_records=20_000)
                for tp, records in batches.items():
                    kept = found[tp.topic.removeprefix(settings.topic_prefix)]
                    kept += [
                        Kept(tp.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
                        for r in records
                        if r.offset < ends[tp]
                    ]
                behind = {tp for tp in behind if await reader.position(tp) < ends[tp]}
    return found


async def ends(clients: Clients, settings: Settings) -> dict[Partition, int]:
    """Where each topic ends: what moves while something is under way."""
    partitions = [tp for name in READ for tp in partitions_of(settings, name)]
    async with open_reader(clients, partitions) as reader:
        return await reader.end_offsets(partitions)


async def tables(dsn: str) -> dict[str, dict[Key, Row]]:
    """Every row, with times and money as the integers that the loader staged."""
    try:
        connection = await asyncpg.connect(dsn, timeout=SCRAPE_TIMEOUT_SECONDS)
    except OSError as error:
        raise DependencyAway("PostgreSQL does not answer: is `sendtrace up` running?") from error
    try:
        return {table.name: await _rows(connection, table) for table in TABLES}
    finally:
        await connection.close()


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
    """Our counters, without prefix and `_total`."""
    return {
        _series(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith(PREFIX) and sample.name.endswith("_total")
    }


def _series(name: str, labels: Mapping[str, str]) -> Series:
    return name.removeprefix(PREFIX).removesuffix("_total"), tuple(sorted(labels.items()))
