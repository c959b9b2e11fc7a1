"""`sendtrace up` over a log that lost records unread: it says so and ends, until it is accepted.

The log is spoilt while nothing but Kafka runs, as retention does to a stack that was away.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest
from broken_topics import delete_until

from schemas.metrics import GAPS
from schemas.topics import INBOUND, PARTS, STATUSES, partition_of
from sendtrace.local.brokers import start_broker
from sendtrace.local.plan import Options, StackPlan, make_plan
from sendtrace.local.scrape import scrape
from sendtrace.runtime.kafka import KafkaClients, partitions_of
from sendtrace.runtime.settings import Settings

from engine import produce
from stack_up import free_port_base, sendtrace, up

# Something that each reader can only put aside: its position moves.
JUNK = [(f"key-{n}", b"neither JSON nor anything else", []) for n in range(20)]
READERS = {"joiner": STATUSES, "rollup": PARTS, "loader": INBOUND}
PARTITIONS = 3
SEEN_SECONDS = 90


async def test_a_gap_ends_up_and_is_accepted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, base = tmp_path / "data", free_port_base()
    monkeypatch.setenv("SENDTRACE_PARTITIONS", str(PARTITIONS))
    settings = msgspec.structs.replace(
        Settings(), port_base=base, data_dir=str(data_dir), partitions=PARTITIONS
    )
    plan = make_plan(settings, {}, Options())
    async with up(data_dir, base, "--no-simulate"):
        await put(plan.settings)
        await until(plan, all_is_read)
    [broker] = plan.brokers
    kafka = await start_broker(broker, plan.brokers)
    try:
        await put(plan.settings)
        for topic in READERS.values():
            for partition in partitions_of(plan.settings, topic):
                await delete_until(plan.settings, partition, -1)
    finally:
        await kafka.stop()

    code, said = await sendtrace(data_dir, "up", "--port-base", str(base), "--no-simulate")
    assert code == 5, said
    [sentence] = [line for line in said.splitlines() if "exit code 5" in line]
    assert said.endswith(sentence + "\n")
    assert any(sentence.startswith(f"{name} ended with exit code 5: ") for name in READERS)
    assert "offsets were deleted unread" in sentence
    assert "start once with --accept-gap to go on at offset" in sentence
    assert "starting it again" not in said

    async with up(data_dir, base, "--no-simulate", "--accept-gap") as stack:
        await until(plan, all_are_counted)
        joiner = joiner_of(stack.pid)
        assert joiner is not None
        assert joiner.cmdline()[-1] == "--accept-gap"
        joiner.send_signal(signal.SIGKILL)
        # What is lost after the start is another gap, which nobody has heard of yet.
        async with asyncio.timeout(SEEN_SECONDS):
            while (again := joiner_of(stack.pid)) in (None, joiner):
                await asyncio.sleep(0.1)
        assert again is not None
        assert again.cmdline()[-1] == "joiner"


async def put(settings: Settings) -> None:
    for topic in READERS.values():
        await produce(KafkaClients(settings), settings, JUNK, topic)


Page = dict[tuple[str, str], float]  # figures by process and name, summed over labels


async def until(plan: StackPlan, seen: Callable[[Page], bool]) -> None:
    ports = {process.name: process.port for process in plan.processes}
    async with aiohttp.ClientSession() as session:
        page: Page = {}
        async with asyncio.timeout(SEEN_SECONDS):
            while not seen(page):
                await asyncio.sleep(0.2)
                page = {}
                for process, samples in (await scrape(session, ports)).pages.items():
                    for sample in samples:
                        key = process, sample.name
                        page[key] = page.get(key, 0) + sample.value


def all_is_read(page: Page) -> bool:
    return all(
        page.get((reader, "sendtrace_loop_lag_records")) == 0
        and page[reader, "sendtrace_loop_records_total"] >= len(JUNK)
        and page[reader, "sendtrace_loop_commits_total"] > 0
        for reader in READERS
    )


def all_are_counted(page: Page) -> bool:
    """Each partition that lost records is a gap: as many of each topic."""
    gaps = len({partition_of(key.encode(), PARTITIONS) for key, *_ in JUNK})
    return (
        page.get(("exporter", f"sendtrace_{GAPS.name}_total")) == 2 * gaps
        and page.get(("loader", "sendtrace_loader_gaps_total")) == gaps
    )


def joiner_of(pid: int) -> psutil.Process | None:
    """The process itself: its guardian, which stands above it, has the same arguments."""
    for each in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now, or is a zombie
            if each.cmdline()[1:4] == ["-m", "sendtrace", "joiner"]:
                return each
    return None
