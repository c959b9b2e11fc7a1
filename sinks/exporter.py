"""Process `exporter`: topic ``totals`` to `/metrics`.

Must: sum everything that stood in the topic when it started before it shows anything (a partial
sum looks like a counter reset), and show the same figures as any other exporter. It has no state
and no group: it reads all partitions from the beginning each time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiohttp import web
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from schemas.topics import TOTALS
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import (
    Clients,
    Consumer,
    KafkaClients,
    Partition,
    Record,
    partitions_of,
    stop_quietly,
)
from sendtrace.runtime.service import (
    Health,
    Page,
    encoder_for,
    health_routes,
    http_server,
    stop_on_signals,
)
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.task import PositionLost
from sendtrace.runtime.topic_watch import TopicWatch, watching
from sinks.families import Progress, ProgressCollector, TotalsCollector
from sinks.sums import Sums

POLL_MS = 500
# Until the sums are whole: positions may also move over control records alone, without a record.
START_POLL_MS = 50
# Applying a record costs some 10 us: a poll of this size keeps `/metrics` answering in between.
POLL_LIMIT_RECORDS = 2_000
# How often Kafka is asked where the topic ends: lag, and the proof that it still answers.
WATCH_SECONDS = 2.0
# A consumer of aiokafka may hang after a broker restart without an exception (docs/aiokafka.md 28).
STUCK_SECONDS = 60.0
# The share of time that rendering may take: a small page is fresh, a large one costs no more.
RENDER_SHARE = 0.25
OPENMETRICS_END = b"# EOF\n"


async def export(
    clients: Clients,
    settings: Settings,
    sums: Sums,
    health: Health,
    stopping: asyncio.Event,
    progress: Progress | None = None,
) -> None:
    """Keep the sums up to date until told to stop; ready once they are whole."""
    progress = progress or Progress()
    partitions = partitions_of(settings, TOTALS)
    async with watching(clients, settings, [TOTALS]) as topic:
        await _export(clients, partitions, sums, health, stopping, progress, topic)


async def _export(
    clients: Clients,
    partitions: Sequence[Partition],
    sums: Sums,
    health: Health,
    stopping: asyncio.Event,
    progress: Progress,
    topic: TopicWatch,
) -> None:
    reader = clients.reader(resets=False)
    await reader.start()
    try:
        reader.assign(partitions)
        reader.pause(*partitions)  # until it is known where they begin
        ends = await reader.end_offsets(partitions)
        for partition, offset in (await reader.beginning_offsets(partitions)).items():
            reader.seek(partition, offset)
        reader.resume(*partitions)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_watch(reader, partitions, health, progress))
            await _read(reader, sums, health, stopping, progress, ends, topic)
            watch.cancel()
    finally:
        await stop_quietly(reader)


async def _read(
    reader: Consumer,
    sums: Sums,
    health: Health,
    stopping: asyncio.Event,
    progress: Progress,
    ends: Mapping[Partition, int],
    topic: TopicWatch,
) -> None:
    missing = set(ends)
    while not stopping.is_set():
        topic.check()
        # Before the poll, or an empty topic would be ready only after it.
        if missing and not await _unread(reader, missing, ends):
            health.set_ready()
        batches = await _poll(reader, START_POLL_MS if missing else POLL_MS)
        progress.polled_at = time.monotonic()
        for records in batches.values():
            for record in records:
                sums.apply(record.key, record.value)
            progress.records_read += len(records)
            progress.newest_ms = max(progress.newest_ms, records[-1].timestamp)
        await asyncio.sleep(0)  # getmany does not yield while it has records at hand


async def _poll(reader: Consumer, timeout_ms: int) -> Mapping[Partition, Sequence[Record]]:
    """Raises PositionLost where what comes next is gone: a figure may have been in it."""
    try:
        return await reader.getmany(timeout_ms=timeout_ms, max_records=POLL_LIMIT_RECORDS)
    except NoOffsetForPartitionError:
        return {}  # said before we sought
    except OffsetOutOfRangeError as error:
        (partition, offset), *_ = error.args[0].items()
        raise PositionLost(
            f"offset {offset} of {partition.topic}-{partition.partition} is not there any more: "
            "records of totals were deleted. Restore the topic; the exporter reads it from its "
            "beginning when it starts"
        ) from error


async def _unread(
    reader: Consumer, missing: set[Partition], ends: Mapping[Partition, int]
) -> set[Partition]:
    """Takes those out of ``missing`` that were read to the end; answers the rest.

    By position: the last offsets of a partition may be control records, which are never handed
    out, so that the last record's offset + 1 may never reach the end (docs/aiokafka.md 29).
    """
    for partition in list(missing):
        if await reader.position(partition) >= ends[partition]:
            missing.discard(partition)
    return missing


async def _watch(
    reader: Consumer, partitions: Sequence[Partition], health: Health, progress: Progress
) -> None:
    """Lag, and the watchdog: behind without moving, while Kafka answers, is beyond repair."""
    read_before = -1
    moved_at = time.monotonic()
    while True:
        try:
            ends = await reader.end_offsets(partitions)
        except KafkaError:
            # Kafka is away: what was summed stays right; seconds_since_answer tells of it.
            moved_at = time.monotonic()
        else:
            read = sum([await reader.position(partition) for partition in partitions])
            progress.lag_records = max(0, sum(ends.values()) - read)
            progress.answered_at = time.monotonic()
            if read != read_before or progress.lag_records == 0:
                read_before, moved_at = read, progress.answered_at
            elif progress.answered_at - moved_at > STUCK_SECONDS:
                health.live, health.reason = False, "the consumer of totals does not move"
        sleeping_since = time.monotonic()
        await asyncio.sleep(WATCH_SECONDS)
        progress.loop_lag_seconds = time.monotonic() - sleeping_since - WATCH_SECONDS


class TotalsPage:
    """The figures, and how the exporter does.

    The figures are rendered again when they changed, and at most once a second: that bounds what
    any number of scrapers costs: 0.35 s at most for 10,000 label sets (bench/exporter.py).
    """

    def __init__(self, sums: Sums, progress: Progress) -> None:
        self._sums = sums
        self._progress = progress
        self._totals = TotalsCollector(sums)
        self._own = ProgressCollector(progress, sums)
        self._kept: dict[str, _Rendered] = {}  # by content type: there are two

    def __call__(self, accept: str) -> tuple[bytes, str]:
        encode, content_type = encoder_for(accept)
        now = time.monotonic()
        kept = self._kept.get(content_type)
        if kept is None or (kept.applied != self._sums.applied and now >= kept.until):
            applied, body = self._sums.applied, encode(self._totals)
            took_seconds = time.monotonic() - now
            kept = _Rendered(body, applied, now + took_seconds / RENDER_SHARE)
            self._kept[content_type] = kept
            self._progress.render_seconds = took_seconds
        return kept.body.removesuffix(OPENMETRICS_END) + encode(self._own), content_type


class _Rendered(NamedTuple):
    body: bytes
    applied: int  # records in it
    until: float  # not rendered again before


def routes(health: Health, page: Page) -> list[web.RouteDef]:
    """``/livez``, ``/readyz``, ``/metrics``; the last answers 503 until the sums are whole."""

    def whole_page(accept: str) -> tuple[bytes, str]:
        if not health.ready:
            raise web.HTTPServiceUnavailable(text=health.reason)
        return page(accept)

    return health_routes(health, whole_page)


async def run(settings: Settings) -> None:
    """The process: until SIGTERM or SIGINT."""
    stopping = stop_on_signals()
    health, sums, progress = Health(), Sums(), Progress()
    app = web.Application()
    app.add_routes(routes(health, TotalsPage(sums, progress)))
    async with http_server(app, settings.bind_address, settings.port("exporter")):
        await topics.require(settings)
        await export(KafkaClients(settings), settings, sums, health, stopping, progress)
