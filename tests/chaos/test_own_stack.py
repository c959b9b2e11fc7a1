"""Faults that no process can go on from by itself, each on a stack of its own.

Every process that it concerns ends with exit code 5 and one sentence, also when it is started
again; nothing more is written. With ``--accept-gap`` they go on, and what was skipped is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping

import aiohttp
import pytest
from aiokafka import TopicPartition
from broken_topics import add_partition, delete_until, remake
from prometheus_client.parser import text_string_to_metric_families

from schemas.topics import (
    INBOUND,
    LIFECYCLES,
    PARTS,
    QUARANTINE,
    ROLLUPS,
    STATUSES,
    TOTALS,
)
from sendtrace.runtime.kafka import KafkaClients, partitions_of
from sendtrace.runtime.reading import open_reader
from sendtrace.runtime.settings import Settings

from chaos.driving import rows, until
from chaos.stack import LocalStack, running_stack
from engine import Traffic, produce

pytestmark = pytest.mark.timeout(300)  # a stack is started, and each process several times
DIFFERS = 5
# Two seconds between two looks, and what a busy machine adds.
STOP_SECONDS = 20.0
# For so long it is watched that nothing is written any more.
QUIET_SECONDS = 1.5
WRITTEN = (LIFECYCLES, PARTS, ROLLUPS, TOTALS, QUARANTINE)
# Who reads an input that may be lost, and which.
READERS = {"joiner": STATUSES, "rollup": PARTS, "loader": INBOUND}
MESSAGES = 30


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    """The tests go on from one another: only the last leaves it spoilt."""
    settings = Settings(
        partitions=2,
        session_timeout_ms=6_000,
        transaction_timeout_ms=5_000,
        transaction_interval_ms=20,
        edge_drain_seconds=0.0,
    )
    async with running_stack(tmp_path_factory.mktemp("stack"), settings) as started:
        yield started


async def put(stack: LocalStack, *topics: str) -> None:
    """Something for each of these that its reader can only put aside: its position moves."""
    for topic in topics:
        junk = [(f"key-{n}", b"neither JSON nor anything else", []) for n in range(20)]
        await produce(KafkaClients(stack.settings), stack.settings, junk, topic)


async def put_messages(stack: LocalStack, messages: int = MESSAGES) -> None:
    await produce(KafkaClients(stack.settings), stack.settings, Traffic(messages).records)


async def ends(stack: LocalStack, names: Collection[str]) -> dict[TopicPartition, int]:
    partitions = [tp for name in names for tp in partitions_of(stack.settings, name)]
    async with open_reader(KafkaClients(stack.settings), partitions) as reader:
        return dict(await reader.end_offsets(partitions))


async def sample(stack: LocalStack, part: str, name: str, **labels: str) -> float | None:
    """One figure of a process's metrics page."""
    url = f"http://127.0.0.1:{stack.settings.port(part)}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        page = await answer.text()
    return next(
        (
            each.value
            for family in text_string_to_metric_families(page)
            for each in family.samples
            if each.name == name and each.labels == labels
        ),
        None,
    )


async def all_is_read(stack: LocalStack) -> None:
    """Messages are in the warehouse, and every reader has committed a position."""
    wanted = await rows(stack) + MESSAGES
    await put_messages(stack, wanted)
    await put(stack, *READERS.values())

    async def is_there() -> bool:
        found = [
            await sample(stack, part, "sendtrace_loop_lag_records") == 0
            and (await sample(stack, part, "sendtrace_loop_commits_total") or 0) > 0
            for part in READERS
        ]
        return all(found) and await rows(stack) == wanted

    await until(is_there, "everything is read")


async def stopped(stack: LocalStack, part: str) -> str:
    """It ends by itself, within the bound, with one sentence: that."""
    code = await asyncio.wait_for(stack.processes.running[part].wait(), STOP_SECONDS)
    log = stack.processes.log(part)
    assert code == DIFFERS, log
    assert "Traceback" not in log
    return log.splitlines()[-1]


async def refuses_to_start(stack: LocalStack, part: str) -> str:
    await stack.processes.start(part)
    return await stopped(stack, part)


async def nothing_more_is_written(stack: LocalStack, names: Collection[str] = WRITTEN) -> None:
    """Though there is more to read."""
    before, rows_before = await ends(stack, names), await rows(stack)
    await put_messages(stack)
    await asyncio.sleep(QUIET_SECONDS)
    assert (await ends(stack, names), await rows(stack)) == (before, rows_before)


async def test_records_deleted_unread(stack: LocalStack) -> None:
    await all_is_read(stack)
    for part in READERS:
        await stack.stop(part)
    read = await ends(stack, READERS.values())
    await put_messages(stack)
    await put(stack, PARTS, INBOUND)
    unread = await ends(stack, READERS.values())
    for partition, end in unread.items():
        await delete_until(stack.settings, partition, end)
    for part, topic in READERS.items():
        sentence = await refuses_to_start(stack, part)
        # Tasks restore side by side: either partition may be told.
        assert any(
            f"{tp.topic}-{tp.partition}: the next offset to read is {read[tp]}, but it begins at "
            f"{unread[tp]}: {unread[tp] - read[tp]} offsets were deleted unread"
            in sentence
            and f"with --accept-gap to go on at offset {unread[tp]}" in sentence
            for tp in partitions_of(stack.settings, topic)
        ), sentence
    await nothing_more_is_written(stack)
    for part in READERS:
        await stack.processes.start(part, "--accept-gap")
        await stack.processes.until_ready(part)
    skipped = {
        topic: sum(
            unread[tp] - read[tp] for tp in unread if tp.topic == stack.settings.topic(topic)
        )
        for topic in READERS.values()
    }
    assert all(skipped.values())
    await counted(stack, "deleted", skipped, 2, (0, 0))
    await goes_on(stack)


async def counted(
    stack: LocalStack,
    reason: str,
    skipped: dict[str, int],
    gaps: int,
    already: tuple[float, ...],
) -> None:
    """In the figures of the exporter, and in the loader's own, which are of all reasons."""

    async def is_so() -> bool:
        return [
            await sample(stack, "exporter", f"sendtrace_{name}_total", input=topic, reason=reason)
            for topic in (STATUSES, PARTS)
            for name in ("gaps", "gap_records")
        ] == [figure for topic in (STATUSES, PARTS) for figure in (gaps, skipped[topic])]

    gaps_before, records_before = already
    assert await loader_gaps(stack) == (gaps_before + gaps, records_before + skipped[INBOUND])

    await until(is_so, f"{gaps} gaps of {skipped}")


async def loader_gaps(stack: LocalStack) -> tuple[float, ...]:
    names = ("sendtrace_loader_gaps_total", "sendtrace_loader_gap_records_total")
    return tuple([await sample(stack, "loader", name, topic=INBOUND) or 0 for name in names])


async def goes_on(stack: LocalStack) -> None:
    """New messages arrive, and a second start without the option finds nothing to say."""
    for part in READERS:
        await stack.stop(part)
        await stack.start(part)
    before = await rows(stack)
    await put_messages(stack, before + 10)

    async def is_there() -> bool:
        return await rows(stack) == before + 10

    await until(is_there, "new rows")


async def test_inputs_made_anew(stack: LocalStack) -> None:
    """Filled past the positions at once: offsets alone would not tell."""
    await all_is_read(stack)
    read = await ends(stack, READERS.values())
    rows_before = await rows(stack)
    already = await loader_gaps(stack)
    began = time.monotonic()
    await remake(stack.settings, *READERS.values())
    await put(stack, *READERS.values())
    await put_messages(stack)
    for part, topic in READERS.items():
        sentence = await stopped(stack, part)
        assert stack.settings.topic(topic) in sentence, sentence
    print(f"all had ended {time.monotonic() - began:.1f} s after the topics began to go")
    filled: Mapping[TopicPartition, int] = {}
    while not all(filled.get(tp, 0) > position for tp, position in read.items()):
        await put_messages(stack)
        await put(stack, *READERS.values())
        filled = await ends(stack, READERS.values())
    for part, topic in READERS.items():
        sentence = await refuses_to_start(stack, part)
        assert f"{stack.settings.topic(topic)}-" in sentence, sentence
        assert "the topic was made anew" in sentence
        assert "with --accept-gap to go on at offset 0" in sentence
    await nothing_more_is_written(stack)
    assert stack.is_alive("edge")
    assert stack.is_alive("exporter")
    assert await rows(stack) == rows_before
    for part in READERS:
        await stack.processes.start(part, "--accept-gap")
        await stack.processes.until_ready(part)
    await counted(stack, "remade", dict.fromkeys(READERS.values(), 0), 2, already)
    await goes_on(stack)


async def test_partitions_added(stack: LocalStack) -> None:
    """A key belongs to another partition for everybody else: there is no going on."""
    await all_is_read(stack)
    concerned = {
        "edge": STATUSES,
        "joiner": STATUSES,
        "rollup": PARTS,
        "loader": INBOUND,
        "exporter": TOTALS,
    }
    await add_partition(stack.settings, STATUSES, PARTS, INBOUND, TOTALS)
    for part in concerned:
        sentence = await stopped(stack, part)
        assert "partitions and must have" in sentence, sentence
    await nothing_more_is_written(stack)
    for part in concerned:
        sentence = await refuses_to_start(stack, part)
        assert "partitions and must have" in sentence, sentence
    for part in READERS:
        await stack.processes.start(part, "--accept-gap")
        await stopped(stack, part)
