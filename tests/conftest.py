"""Shared fixtures: one Kafka and one PostgreSQL per run, a topic prefix and a database per test.

``TEST_POSTGRES_DSN`` points at a PostgreSQL to use instead of starting one;
``TEST_POSTGRES_PROGRAMS`` at the folder of another ``postgres`` to start than the wheel's.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from sendtrace.local.kafka import LocalKafka
from sendtrace.local.postgres import LocalPostgres
from sendtrace.runtime import topics
from sendtrace.runtime.kafka import no_fencing_unheard
from sendtrace.runtime.settings import Settings

from chaos.brokers import Brokers, running_brokers
from fakes.cluster import Cluster, KafkaCluster, MemoryCluster
from rules_table import NamedTestsRan

# `make test-all` asks for the full number of examples; a failure prints the seed either way. How
# long an example takes says how busy the machine is, and nothing about the property.
for name, examples in {"quick": 200, "full": 5000}.items():
    hypothesis_settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(NamedTestsRan(config))
    # As in every process; here it would be printed after the results.
    logging.getLogger("asyncio").addFilter(no_fencing_unheard)


def pytest_report_header() -> list[str]:
    """Which PostgreSQL it is about, when it is not the one of the wheel."""
    programs = os.environ.get("TEST_POSTGRES_PROGRAMS")
    if not programs:
        return []
    command = [f"{programs}/postgres", "--version"]
    return [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()]


_prefixes = itertools.count()
_databases = itertools.count()


@pytest.fixture(scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalKafka]:
    """Real Kafka, one for the whole run."""
    broker = await LocalKafka.start(tmp_path_factory.mktemp("kafka"))
    yield broker
    await broker.stop()


@pytest.fixture(scope="session")
async def kafka_cluster3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Brokers]:
    """Three brokers for the tests that kill them. Whoever breaks one heals it."""
    async with running_brokers(tmp_path_factory.mktemp("kafka3"), 3) as brokers:
        yield brokers


@pytest.fixture
async def kafka_settings(kafka: LocalKafka, tmp_path: Path) -> Settings:
    """Settings with a topic prefix of the test's own; the topics exist, with 3 partitions."""
    settings = Settings(
        kafka_bootstrap=kafka.bootstrap,
        topic_prefix=f"test{next(_prefixes)}.",
        partitions=3,
        data_dir=str(tmp_path / "data"),
        session_timeout_ms=6_000,
        transaction_interval_ms=50,
        edge_budget_seconds=60.0,  # a busy machine is no reason for a 503
    )
    await topics.apply(settings)
    return settings


def _with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return re.sub(r"(://[^/]*/)[^?]*", rf"\g<1>{name}", dsn)


@pytest.fixture(scope="session")
async def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The DSN of a server's maintenance database."""
    given = os.environ.get("TEST_POSTGRES_DSN")
    if given:
        yield given
        return
    data_dir: Path = tmp_path_factory.mktemp("postgres") / "data"
    programs = os.environ.get("TEST_POSTGRES_PROGRAMS")
    server = await LocalPostgres.start(
        data_dir, port=0, fsync=False, programs=Path(programs) if programs else None
    )
    yield server.dsn
    await server.stop()


@pytest.fixture
async def postgres_dsn(postgres_server: str) -> AsyncIterator[str]:
    """The DSN of an empty database of the test's own."""
    name = f"test_{os.getpid()}_{next(_databases)}"
    admin = await asyncpg.connect(postgres_server)
    try:
        await admin.execute(f'create database "{name}" template template0')
        yield _with_database(postgres_server, name)
        await admin.execute(f'drop database "{name}" with (force)')
    finally:
        await admin.close()


@pytest.fixture(params=["memory", "kafka"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    """The same suite on the in-memory log and on real Kafka."""
    if request.param == "memory":
        return MemoryCluster(
            Settings(topic_prefix="test.", partitions=3, transaction_interval_ms=10)
        )
    settings: Settings = request.getfixturevalue("kafka_settings")
    return KafkaCluster(settings, tmp_path / "state")
