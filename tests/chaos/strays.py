"""Faults that write: records of our own, past the edge, straight into an input.

Each says beforehand what it writes, as the simulator does: the driver puts it into the request log
and the ledger. So `verify` asks for these records as for all others, and nothing is excused.
What a processor must put aside of them it must put aside once (`accounting.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from schemas.codec import (
    TYPE_INBOUND,
    TYPE_RECEIPT,
    TYPE_SEND,
    TYPE_STATUS,
    Headers,
    cloud_event,
    event_id,
)
from schemas.topics import BY_NAME, INBOUND, RECEIPTS, SENDS, STATUSES, partition_of
from sendtrace.runtime.settings import Settings
from sendtrace.simulator.ledger import Message, Standing
from sendtrace.simulator.webhook import Request

from chaos.faults import Fault
from chaos.stack import Stack

WRITE_SECONDS = 30.0
TYPES = {
    SENDS: TYPE_SEND,
    STATUSES: TYPE_STATUS,
    RECEIPTS: TYPE_RECEIPT,
    INBOUND: TYPE_INBOUND,
}
PREFIX = "chaos-"
# The room for headers in the largest record, there and in quarantine.
RIM_BYTES = 2_000


@dataclass(frozen=True)
class Stray:
    """One record. ``number`` is the fault's: no two faults write the same."""

    topic: str
    number: int
    key: bytes | None
    value: bytes | None

    @property
    def path(self) -> str:
        return "/sends" if self.topic == SENDS else f"/webhooks/{PREFIX}{self.number}"

    @property
    def ids(self) -> tuple[str, ...]:
        return ((self.key or b"").decode("utf-8", "replace"),)

    @property
    def name(self) -> str:
        """What it is counted by: its key among sends, else its ``ce_id``."""
        return self.ids[0] if self.topic == SENDS else self.ce_id

    @property
    def ce_id(self) -> str:
        return event_id("POST", self.path, self.value or b"")

    @property
    def request(self) -> Request:
        """What the simulator would have asked the edge, to have the same record written."""
        return Request("POST", self.path, body=self.value or b"", shown_path=self.path)

    def headers(self, at_us: int) -> Headers:
        return cloud_event(
            ce_type=TYPES[self.topic],
            ce_id=self.ce_id,
            source=self.path,
            at_us=at_us,
            content_type="application/json",
        )


class Writing(Fault):
    """Writes its strays into partition 0, whatever their keys say."""

    @property
    @abstractmethod
    def strays(self) -> Sequence[Stray]: ...

    @property
    def told(self) -> Sequence[Message]:
        """What must become of it, for the ledger."""
        return ()

    async def inject(self, stack: Stack) -> None:
        # Idempotent, so that a retry of the producer is not one record more.
        producer = AIOKafkaProducer(
            bootstrap_servers=stack.settings.kafka_bootstrap,
            acks="all",
            enable_idempotence=True,
            max_request_size=max(
                int(BY_NAME[topic].config["max.message.bytes"]) for topic in TYPES
            ),
        )
        async with asyncio.timeout(WRITE_SECONDS):
            await producer.start()
            try:
                for stray in self.strays:
                    await producer.send_and_wait(
                        stack.settings.topic(stray.topic),
                        stray.value,
                        key=stray.key,
                        headers=stray.headers(time.time_ns() // 1000),
                        partition=0,
                    )
            finally:
                await producer.stop()


# Bytes that no webhook has, and shapes that a parser may trip over.
POISONS = (b"", b"\xff\xfe\x00", b"null", b'{"message_uuid": 7, "status": []}', b"[" * 5_000, None)
UNKEYED = ((None, b"{}"), (b"\xff", b"{}"))


@dataclass(frozen=True)
class Poison(Writing):
    """Records that mean nothing."""

    topic: str
    number: int = 0

    @property
    def name(self) -> str:
        return f"poison in {self.topic}"

    @property
    def strays(self) -> Sequence[Stray]:
        key = f"{PREFIX}poison-{self.number}".encode()
        both = [*((key, value) for value in POISONS), *UNKEYED]
        return [Stray(self.topic, self.number, key, value) for key, value in both]


@dataclass(frozen=True)
class Oversize(Writing):
    """A record as large as the topic takes, twice what the edge would let in."""

    topic: str
    number: int = 0

    @property
    def name(self) -> str:
        return f"oversize record in {self.topic}"

    @property
    def strays(self) -> Sequence[Stray]:
        limit = int(BY_NAME[self.topic].config["max.message.bytes"])
        value = b'{"text":"' + b"x" * (limit - RIM_BYTES) + b'"}'
        key = f"{PREFIX}oversize-{self.number}".encode()
        return [Stray(self.topic, self.number, key, value)]


@dataclass(frozen=True)
class OtherPartitioner(Writing):
    """Statuses of another client, whose ids do not hash to the partition that they are in."""

    settings: Settings
    number: int = 0
    count: int = 5

    @property
    def name(self) -> str:
        return f"{STATUSES} by another partitioner"

    @property
    def ids(self) -> tuple[str, ...]:
        names = (f"{PREFIX}other-{self.number}-{n}" for n in itertools.count())
        misplaced = (
            name for name in names if partition_of(name.encode(), self.settings.partitions) != 0
        )
        return tuple(itertools.islice(misplaced, self.count))

    @property
    def strays(self) -> Sequence[Stray]:
        return [Stray(STATUSES, self.number, each.encode(), _delivered(each)) for each in self.ids]

    @property
    def told(self) -> Sequence[Message]:
        """Delivered for a price: all that one status says. The number is of no country's plan."""
        stands = Standing(
            outcome="delivered",
            is_final=True,
            cost_units=3_330_000,
            currency="EUR",
            cost_source="event",
        )
        return [
            Message(
                message_id=each,
                api="messages",
                planned_at_us=0,
                channel="sms",
                told=stands,
                settled=stands,
                facts=(("delivered", ""),),
            )
            for each in self.ids
        ]


# Vonage's clock in these statuses: when the run began, as the same fault writes the same bytes.
_AT = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _delivered(message_id: str) -> bytes:
    return (
        f'{{"message_uuid":"{message_id}","to":"447700900000","from":"447700900001",'
        f'"timestamp":"{_AT}","status":"delivered","channel":"sms",'
        '"usage":{"currency":"EUR","price":"0.0333"}}'
    ).encode()
