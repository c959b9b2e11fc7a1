"""Shared fixtures: one Kafka and one PostgreSQL per test run, a topic prefix per test."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.cluster import Cluster, KafkaCluster, MemoryCluster
from hypothesis import settings as hypothesis_settings

from sendtrace.local.kafka import LocalKafka
from sendtrace.runtime import topics
from sendtrace.runtime.settings import Settings

# `make test-all` asks for the full number of examples; a failure prints the seed either way.
hypothesis_settings.register_profile("quick", max_examples=200, deadline=None, print_blob=True)
hypothesis_settings.register_profile("full", max_examples=5000, deadline=None, print_blob=True)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

_prefixes = itertools.count()


@pytest.fixture(scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalKafka]:
    """Real Kafka, one for the whole run."""
    broker = await LocalKafka.start(tmp_path_factory.mktemp("kafka"))
    yield broker
    await broker.stop()


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
    )
    await topics.apply(settings)
    return settings


@pytest.fixture(params=["memory", "kafka"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    """The same suite on the in-memory log and on real Kafka."""
    if request.param == "memory":
        return MemoryCluster(
            Settings(topic_prefix="test.", partitions=3, transaction_interval_ms=10)
        )
    settings: Settings = request.getfixturevalue("kafka_settings")
    return KafkaCluster(settings, tmp_path / "state")
