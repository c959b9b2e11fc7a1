"""Metadata with topic ids: aiokafka 0.14 asks with version 5 at most, which tells none.

A topic that was deleted and made again has its name and another id: nothing else tells it from the
old one for certain (docs/aiokafka.md 38). Version 10 (KIP-516, brokers from 2.8 on) tells ids.
Field lists: https://kafka.apache.org/protocol#The_Messages_Metadata
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NoError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

REQUEST_TIMEOUT_MS = 5_000
_NAME = CompactString("utf-8")
_ANY_ID = UUID(int=0)  # ask by name


class TopicState(NamedTuple):
    """Which topic it is, whatever its name, and how many partitions it has."""

    topic_id: str
    partitions: int


class Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka is untyped
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: Any) -> UUID:
        return UUID(bytes=data.read(16))


class MetadataResponse_v10(Response):  # type: ignore[misc]  # noqa: N801
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", _NAME),
                ("port", Int32),
                ("rack", _NAME),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", _NAME),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _NAME),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequest_v10(RequestStruct):  # type: ignore[misc]  # noqa: N801
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponse_v10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", _NAME), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicsMetadata(Request[MetadataRequest_v10]):  # type: ignore[misc]
    """Asks about topics by name; it never makes one."""

    API_KEY = 3

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[MetadataRequest_v10]) -> MetadataRequest_v10:
        topics: list[Any] = [(_ANY_ID, name, {}) for name in self._names]
        return request_struct_class(topics, False, False, False, {})


def topics_of(response: Any) -> dict[str, TopicState]:
    """The topics that exist, by name. Raises what else the broker refused."""
    found = {}
    for code, name, topic_id, _, partitions, *_ in response.topics:
        error = for_code(code)
        if error is UnknownTopicOrPartitionError:
            continue
        if error is not NoError:
            raise error
        found[name] = TopicState(str(topic_id), len(partitions))
    return found


class KafkaTopicReader:
    """Asks any broker which topics there are."""

    def __init__(self, bootstrap: str) -> None:
        self._client = AIOKafkaClient(
            bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS
        )

    async def start(self) -> None:
        await self._client.bootstrap()

    async def stop(self) -> None:
        await self._client.close()

    async def describe(self, names: Collection[str]) -> dict[str, TopicState]:
        """Those of the topics that exist. Raises KafkaError or TimeoutError."""
        async with asyncio.timeout(REQUEST_TIMEOUT_MS / 1000):
            node = self._client.get_random_node()
            return topics_of(await self._client.send(node, TopicsMetadata(names)))
