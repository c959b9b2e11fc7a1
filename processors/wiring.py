"""The one place that wires a joiner: settings, clients, stores, tasks, loop, service."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout
from prometheus_client import CollectorRegistry

from processors.join.policy import Policy
from processors.joining import INPUTS, JoinConfig, Joining
from processors.store import RocksStore, Store
from processors.transaction import EngineConfig, TransactionTask
from schemas.topics import COMPACTED
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import Clients, KafkaClients, Partition, stop_quietly
from sendtrace.runtime.loop import Loop, LoopMetrics
from sendtrace.runtime.service import Health, health_server, stop_on_signals
from sendtrace.runtime.settings import Settings, SettingsError


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def group_of(settings: Settings) -> str:
    return f"{settings.topic_prefix}joiner"


def engine_config(settings: Settings, cluster: str) -> EngineConfig:
    return EngineConfig(
        group=group_of(settings),
        topic_prefix=settings.topic_prefix,
        partitions=settings.partitions,
        inputs=INPUTS,
        cluster=cluster,
        # Past this the coordinator aborts the transaction anyway.
        commit_timeout_seconds=settings.transaction_timeout_ms / 1000,
        store_age_limit_ms=int(COMPACTED["delete.retention.ms"]) // 2,
    )


def policy_of(settings: Settings) -> Policy:
    return Policy(
        default_currency=settings.default_currency,
        callback_hosts=frozenset(settings.listed("callback_hosts")),
        test_accounts=frozenset(settings.listed("test_accounts")),
        test_client_ref_prefixes=settings.listed("test_client_ref_prefixes"),
        time_scale=settings.time_scale,
    )


def join_config(settings: Settings) -> JoinConfig:
    return JoinConfig(
        partitions=settings.partitions,
        policy=policy_of(settings),
        cache_size=settings.lifecycle_cache_size,
        label_set_limit=settings.label_set_limit,
        quarantine_ratio_limit=settings.quarantine_ratio_limit,
    )


@asynccontextmanager
async def joiner(
    settings: Settings,
    clients: Clients,
    open_store: Callable[[int], Store],
    cluster: str,
    instance_id: str | None,
    metrics: LoopMetrics,
    health: Health,
) -> AsyncIterator[Loop]:
    """A joiner's loop, in its group. The caller runs it."""
    config, joining = engine_config(settings, cluster), join_config(settings)

    def make_task(key: Hashable, partitions: frozenset[Partition]) -> TransactionTask:
        assert isinstance(key, int)
        # A message's facts would be split between two tasks otherwise.
        assert partitions == {Partition(settings.topic(n), key) for n in config.inputs}, partitions
        store = open_store(key)
        return TransactionTask(key, Joining(key, store, joining), store, clients, config, now_ms)

    consumer = clients.group_consumer(config.group, instance_id)
    loop = Loop(
        consumer,
        lambda partition: partition.partition,
        make_task,
        interval_seconds=settings.transaction_interval_ms / 1000,
        limit_records=settings.transaction_limit_records,
        metrics=metrics,
        health=health,
    )
    loop.subscribe([settings.topic(name) for name in config.inputs])
    try:
        await consumer.start()
        yield loop
    finally:
        await stop_quietly(consumer)


@contextmanager
def _instance(directory: Path) -> Iterator[str]:
    """The static member's id, kept in the state directory and held under its lock.

    Two processes with one id would displace each other for ever (AIOKAFKA 27).
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / "lock", timeout=0):
            path = directory / "instance-id"
            if not path.exists():
                path.write_text(f"joiner-{uuid4()}")
            yield path.read_text()
    except Timeout as error:
        raise SettingsError(
            f"another joiner uses {directory}: give this one its own SENDTRACE_DATA_DIR"
        ) from error


async def run_joiner(settings: Settings) -> None:
    """Process ``joiner``: until SIGTERM or SIGINT, then what was read is committed."""
    stopping = stop_on_signals()
    await topics.require(settings)
    cluster = await topics.cluster_id(settings)
    directory = settings.state_dir / group_of(settings)
    registry = CollectorRegistry()
    health = Health()
    with _instance(directory) as instance_id:
        async with (
            health_server(health, registry, settings.bind_address, settings.port("joiner")),
            joiner(
                settings,
                KafkaClients(settings),
                lambda partition: RocksStore(directory / str(partition)),
                cluster,
                instance_id,
                LoopMetrics(registry),
                health,
            ) as loop,
        ):
            await loop.run(stopping)
