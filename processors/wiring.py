"""The one place that wires joiner and rollup: settings, clients, stores, tasks, loop, service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal
from uuid import uuid4

from filelock import FileLock, Timeout
from msgspec import Struct
from prometheus_client import CollectorRegistry

from processors import joining, rolling
from processors.policies import policy_of
from processors.stage import Stage, StageConfig
from processors.store import Drops, RocksStore, Store
from processors.transaction import EngineConfig, TransactionTask
from schemas.topics import COMPACTED, LIFECYCLES, ROLLUPS, TOTALS
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import (
    Clients,
    Consumer,
    KafkaClients,
    Partition,
    give_up_joining,
    leave_quietly,
    stop_quietly,
)
from sendtrace.runtime.loop import Loop, LoopMetrics
from sendtrace.runtime.service import (
    STUCK_SECONDS,
    Health,
    health_server,
    leave_on_signal,
    stop_on_signals,
)
from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.topic_watch import watching
from sendtrace.runtime.topics import DependencyAway, TopicChanged

# A rebalance may wait 30 s for members that do not come, and another one may follow.
JOIN_TIMEOUT_SECONDS = 120.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Process(Struct, frozen=True):
    """A process that runs a stage: its name, its topics, and how a partition of it is made."""

    name: Literal["joiner", "rollup"]
    inputs: tuple[str, ...]
    restored: tuple[str, ...]  # what it writes, and restores its state from
    make_stage: Callable[[int, Store, StageConfig], Stage]


JOINER = Process("joiner", joining.INPUTS, (LIFECYCLES, TOTALS), joining.Joining)
ROLLUP = Process("rollup", rolling.INPUTS, (ROLLUPS, TOTALS), rolling.Rolling)


def group_of(settings: Settings, process: Process = JOINER) -> str:
    return settings.topic_prefix + process.name


def engine_config(
    settings: Settings,
    cluster: str,
    process: Process,
    topic_ids: Mapping[str, str],
    accept_gap: bool = False,
) -> EngineConfig:
    return EngineConfig(
        group=group_of(settings, process),
        topic_prefix=settings.topic_prefix,
        partitions=settings.partitions,
        inputs=process.inputs,
        cluster=cluster,
        # Past this the coordinator aborts the transaction anyway.
        commit_timeout_seconds=settings.transaction_timeout_ms / 1000,
        store_age_limit_ms=int(COMPACTED["delete.retention.ms"]) // 2,
        topic_ids={name.removeprefix(settings.topic_prefix): i for name, i in topic_ids.items()},
        accept_gap=accept_gap,
    )


def stage_config(settings: Settings) -> StageConfig:
    return StageConfig(
        partitions=settings.partitions,
        policy=policy_of(settings),
        cache_size=settings.lifecycle_cache_size,
        label_set_limit=settings.label_set_limit,
        quarantine_ratio_limit=settings.quarantine_ratio_limit,
    )


@asynccontextmanager
async def running(
    process: Process,
    settings: Settings,
    clients: Clients,
    open_store: Callable[[int], Store],
    cluster: str,
    instance_id: str | None,
    metrics: LoopMetrics,
    health: Health,
    stopping: asyncio.Event,
    accept_gap: bool = False,
) -> AsyncIterator[Loop]:
    """The loop of a process, in its group, or told to stop before. The caller runs it."""
    inputs = {settings.topic(name) for name in process.inputs}
    async with watching(clients, settings, (*process.inputs, *process.restored)) as watch:
        config = engine_config(settings, cluster, process, watch.topic_ids, accept_gap)
        shared = stage_config(settings)

        def make_task(key: Hashable, partitions: frozenset[Partition]) -> TransactionTask:
            assert isinstance(key, int)
            missing = sorted(inputs - {partition.topic for partition in partitions})
            if missing:
                # A message's facts would be split between two tasks.
                raise TopicChanged(
                    f"{missing[0]} has no partition {key}, and other inputs have one: it is gone, "
                    "or its partitions were changed while it was in use. See docs/operations.md"
                )
            store = open_store(key)
            stage = process.make_stage(key, store, shared)
            return TransactionTask(key, stage, store, clients, config, now_ms)

        consumer = clients.group_consumer(config.group, instance_id)
        loop = Loop(
            consumer,
            lambda partition: partition.partition,
            make_task,
            interval_seconds=settings.transaction_interval_ms / 1000,
            limit_records=settings.transaction_limit_records,
            metrics=metrics,
            health=health,
            check=watch.check,
        )
        loop.subscribe(sorted(inputs))
        try:
            await _join(consumer, stopping)
            yield loop
        finally:
            await stop_quietly(consumer)


async def _join(consumer: Consumer, stopping: asyncio.Event) -> None:
    """Start a member, unless told to stop.

    aiokafka waits for its first assignment for ever (docs/aiokafka.md 24).
    """
    start = asyncio.create_task(consumer.start())
    told = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait(
            {start, told}, timeout=JOIN_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if start in done:
            await start
    finally:
        told.cancel()
        if not start.done():
            await give_up_joining(consumer, start)
    if not done:
        raise DependencyAway(
            f"the group has assigned nothing for {JOIN_TIMEOUT_SECONDS:g} s: Kafka does not answer"
        )


@contextmanager
def _instance(directory: Path, process: Process) -> Iterator[str]:
    """The static member's id, kept in the state directory and held under its lock.

    Two processes with one id would displace each other for ever (docs/aiokafka.md 22).
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / "lock", timeout=0):
            path = directory / "instance-id"
            if not path.exists() or not path.stat().st_size:  # empty: it crashed as it wrote it
                path.write_text(f"{process.name}-{uuid4()}")
            yield path.read_text()
    except Timeout as error:
        raise SettingsError(
            f"another {process.name} uses {directory}: give this one its own SENDTRACE_DATA_DIR"
        ) from error


async def run_joiner(settings: Settings, *, accept_gap: bool = False) -> None:
    """Process ``joiner``: until SIGTERM or SIGINT, then what was read is committed.

    SIGUSR2 does the same and leaves the group, so that the others need not wait for us.
    """
    await _run(JOINER, settings, accept_gap)


async def run_rollup(settings: Settings, *, accept_gap: bool = False) -> None:
    """Process ``rollup``: the same, for sends of several messages."""
    await _run(ROLLUP, settings, accept_gap)


async def _run(process: Process, settings: Settings, accept_gap: bool) -> None:
    stopping = stop_on_signals()
    leaving = leave_on_signal(stopping)
    await topics.require(settings)
    cluster = await topics.cluster_id(settings)
    directory = settings.state_dir / group_of(settings, process)
    registry = CollectorRegistry()
    # A commit may take as long as its transaction may.
    health = Health(STUCK_SECONDS + settings.transaction_timeout_ms / 1000)
    clients, drops = KafkaClients(settings), Drops(registry)
    with _instance(directory, process) as instance_id:
        async with (
            health_server(health, registry, settings.bind_address, settings.port(process.name)),
            running(
                process,
                settings,
                clients,
                lambda partition: RocksStore(directory / str(partition), drops),
                cluster,
                instance_id,
                LoopMetrics(registry),
                health,
                stopping,
                accept_gap,
            ) as loop,
        ):
            await loop.run(stopping)
        if leaving.is_set():
            await leave_quietly(clients, group_of(settings, process), instance_id)
