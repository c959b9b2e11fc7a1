"""Creates and checks the topics. Only ``sendtrace topics apply`` (or Strimzi) creates them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError, for_code
from msgspec import Struct

from schemas.topics import TOPICS, Topic
from sendtrace.runtime.settings import Settings

ADMIN_TIMEOUT_MS = 10_000
# A topic that was just created may not be in the metadata yet.
VISIBLE_TIMEOUT_SECONDS = 15.0
RETRY_SECONDS = 0.2
# A wrong value of these makes results wrong; of the others, slow or short-lived.
VITAL = ("partitions", "cleanup.policy")

Answer = TypeVar("Answer")


class TopicsError(Exception):
    """The topics are not as they must be; the message names them and says what to do."""


class TopicChanged(Exception):
    """A topic is not the one that was, or has other partitions (exit code 5): the message says."""


class DependencyAway(Exception):
    """Kafka or PostgreSQL cannot be reached (exit code 4)."""


class Drift(Struct, frozen=True):
    """One difference between a topic as it is and as it must be."""

    topic: str
    setting: str
    expected: str
    found: str

    @property
    def vital(self) -> bool:
        return self.setting in VITAL

    @property
    def grown(self) -> bool:
        """More partitions than there are to be."""
        return (
            self.setting == "partitions"
            and self.found.isdigit()
            and int(self.found) > int(self.expected)
        )

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, must be {self.expected}"


def other_count(topic: str, expected: object, found: object) -> str:
    """The sentence about a topic whose number of partitions changed."""
    return (
        f"{topic} has {found} partitions and must have {expected}: a key belongs to another one of "
        f"them now. Make the topic anew with {expected} (docs/operations.md), or set "
        "SENDTRACE_PARTITIONS if that is wrong"
    )


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka_bootstrap, request_timeout_ms=ADMIN_TIMEOUT_MS
    )
    try:
        await asyncio.wait_for(admin.start(), ADMIN_TIMEOUT_MS / 1000)
    except (KafkaError, TimeoutError) as error:
        # A failed start leaves the client's sockets and tasks behind otherwise.
        await admin.close()
        raise DependencyAway(away(settings)) from error
    try:
        yield admin
    finally:
        await admin.close()


def away(settings: Settings) -> str:
    """The sentence for who cannot reach Kafka."""
    return (
        f"Kafka at {settings.kafka_bootstrap} does not answer: start it (`sendtrace up`), or "
        "set SENDTRACE_KAFKA_BOOTSTRAP"
    )


async def apply(settings: Settings) -> list[str]:
    """Create the topics that are missing. Answers a line for each thing done or to be done by you.

    An existing topic is never altered: what is wrong with it is in the answer.
    """
    async with _admin(settings) as admin:
        existing = set(await admin.list_topics())
        missing = [topic for topic in TOPICS if settings.topic(topic.name) not in existing]
        if missing:
            replication = settings.replication_factor or min(3, await _brokers(admin))
            await _create(admin, settings, missing, replication)
            await _visible(admin, {settings.topic(topic.name) for topic in missing})
        done = [f"created {settings.topic(topic.name)}" for topic in missing]
        return done + [str(drift) for drift in await _drift(admin, settings)]


async def _asked(
    settings: Settings, ask: Callable[[AIOKafkaAdminClient], Awaitable[Answer]]
) -> Answer:
    """The answer of any broker: the client asks a random one, which may be the one that is away."""
    deadline = time.monotonic() + ADMIN_TIMEOUT_MS / 1000
    while True:
        try:
            async with _admin(settings) as admin:
                return await ask(admin)
        except (NodeNotReadyError, KafkaConnectionError) as error:
            if time.monotonic() >= deadline:
                raise DependencyAway(away(settings)) from error
        await asyncio.sleep(RETRY_SECONDS)


async def drift(settings: Settings) -> list[Drift]:
    """Every difference between the topics as they are and as they must be."""
    return await _asked(settings, lambda admin: _drift(admin, settings))


async def require(settings: Settings) -> list[Drift]:
    """Refuse (TopicsError) on a wrong partition count or cleanup policy; answer the rest.

    More partitions than there are to be is TopicChanged: somebody added them.
    """
    found = await drift(settings)
    for entry in found:
        if entry.grown:
            raise TopicChanged(other_count(entry.topic, entry.expected, entry.found))
    vital = [entry for entry in found if entry.vital]
    if vital:
        lines = "; ".join(str(entry) for entry in vital)
        raise TopicsError(f"{lines}. Run `sendtrace topics apply`, or see docs/operations.md")
    return found


async def cluster_id(settings: Settings) -> str:
    """The id of the cluster: offsets of one cluster mean nothing in another."""

    async def ask(admin: AIOKafkaAdminClient) -> str:
        return str((await admin.describe_cluster())["cluster_id"])

    return await _asked(settings, ask)


async def brokers(settings: Settings) -> int:
    """How many brokers are in the cluster now; one that is away is not."""
    return await _asked(settings, _brokers)


async def _brokers(admin: AIOKafkaAdminClient) -> int:
    return len((await admin.describe_cluster())["brokers"])


async def _create(
    admin: AIOKafkaAdminClient, settings: Settings, missing: list[Topic], replication: int
) -> None:
    response = await admin.create_topics(
        [
            NewTopic(
                settings.topic(topic.name),
                settings.partitions * topic.stages,
                replication,
                topic_configs={
                    **topic.config,
                    # acks=all means two copies as soon as there are three brokers.
                    "min.insync.replicas": "2" if replication >= 3 else "1",
                },
            )
            for topic in missing
        ]
    )
    for name, code, *_ in response.topic_errors:
        if for_code(code).__name__ not in ("NoError", "TopicAlreadyExistsError"):
            raise TopicsError(f"{name} could not be created: {for_code(code).__name__}")


async def _visible(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    async with asyncio.timeout(VISIBLE_TIMEOUT_SECONDS):
        while not names <= set(await admin.list_topics()):
            await asyncio.sleep(0.05)


async def _drift(admin: AIOKafkaAdminClient, settings: Settings) -> list[Drift]:
    names = [settings.topic(topic.name) for topic in TOPICS]
    described = {entry["topic"]: entry for entry in await admin.describe_topics(names)}
    present = [name for name in names if described.get(name, {}).get("partitions")]
    configs = await _configs(admin, present)
    result: list[Drift] = []
    for topic in TOPICS:
        name, partitions = settings.topic(topic.name), settings.partitions * topic.stages
        if name not in present:
            result.append(Drift(name, "partitions", str(partitions), "no such topic"))
            continue
        result += _differences(topic, name, partitions, described[name], configs[name])
    return result


def _differences(
    topic: Topic, name: str, partitions: int, described: Any, config: Mapping[str, str]
) -> list[Drift]:
    result = []
    found = len(described["partitions"])
    if found != partitions:
        result.append(Drift(name, "partitions", str(partitions), str(found)))
    for setting, expected in topic.config.items():
        if config.get(setting) != expected:
            result.append(Drift(name, setting, expected, str(config.get(setting))))
    return result


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, Mapping[str, str]]:
    if not names:
        return {}
    responses = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    )
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }
