"""Group commit: sharing, budget, bounds, and what happens to a producer that failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError, OutOfOrderSequenceNumber, UnknownProducerId
from prometheus_client import CollectorRegistry

from ingest.errors import IN_FLIGHT_FULL, KAFKA_FAILED, KAFKA_SLOW, TOO_LARGE, Refused
from ingest.metrics import Metrics
from ingest.producers import RECORD_LIMIT_BYTES
from ingest.publish import Publisher
from sendtrace.runtime.settings import Settings

from fakes.edge import HeldLog
from waiting import until


@pytest.fixture
def log() -> HeldLog:
    return HeldLog(partitions=1)


@pytest.fixture
async def publisher(settings: Settings, log: HeldLog) -> AsyncIterator[Publisher]:
    settings = msgspec.structs.replace(
        settings, partitions=1, edge_in_flight_limit_bytes=10_000_000, edge_linger_ms=5.0
    )
    made = Publisher(log, settings, Metrics(CollectorRegistry()))
    await made.start()
    yield made
    log.acknowledging.set()
    await made.stop()
    assert made.in_flight.bytes == 0


async def put(publisher: Publisher, value: bytes = b"v", count: int = 1) -> list[object]:
    """Publish at once; the answer of each: None or the row's name."""
    results = await asyncio.gather(
        *(publisher.publish("statuses", b"k", value, []) for _ in range(count)),
        return_exceptions=True,
    )
    return [result.answer if isinstance(result, Refused) else result for result in results]


async def test_requests_of_one_turn_share_one_batch(publisher: Publisher, log: HeldLog) -> None:
    assert await put(publisher, count=50) == [None] * 50
    assert log.batch_sizes == [50]


async def test_while_one_is_on_its_way_the_next_gathers_company(
    publisher: Publisher, log: HeldLog
) -> None:
    log.acknowledging.clear()
    waiting = [asyncio.ensure_future(put(publisher))]
    for _ in range(10):
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(put(publisher)))
    await asyncio.sleep(0)
    log.acknowledging.set()
    await asyncio.gather(*waiting)
    assert sum(log.batch_sizes) == 11
    assert len(log.batch_sizes) <= 3


async def test_a_full_batch_makes_room_for_the_next(publisher: Publisher, log: HeldLog) -> None:
    assert await put(publisher, b"x" * 100_000, count=30) == [None] * 30
    assert sum(log.batch_sizes) == 30
    assert max(log.batch_sizes) <= 10


async def test_order_within_a_partition_is_kept(publisher: Publisher, log: HeldLog) -> None:
    puts = [publisher.publish("statuses", b"k", b"%d" % n + b"x" * 90_000, []) for n in range(30)]
    await asyncio.gather(*puts)
    stored = [int((e.value or b"").rstrip(b"x")) for e in log.records("sendtrace.statuses")]
    assert stored == list(range(30))


@pytest.mark.parametrize("budget_seconds", [0.2])
async def test_what_was_not_handed_over_within_the_budget_is_never_sent(
    publisher: Publisher, log: HeldLog
) -> None:
    log.acknowledging.clear()
    assert await put(publisher, b"x" * 600_000, count=6) == [KAFKA_SLOW] * 6
    assert publisher.in_flight.bytes == pytest.approx(2 * 600_000, rel=0.01)
    log.acknowledging.set()
    await until(lambda: publisher.in_flight.bytes == 0)
    assert len(log.records("sendtrace.statuses")) == 2
    assert await put(publisher) == [None]


@pytest.mark.parametrize("budget_seconds", [0.2])
async def test_the_bound_of_bytes_in_flight(publisher: Publisher, log: HeldLog) -> None:
    log.acknowledging.clear()
    answers = await put(publisher, b"x" * 900_000, count=15)
    assert answers.count(IN_FLIGHT_FULL) == 4
    assert answers.count(KAFKA_SLOW) == 11


async def test_a_record_that_no_batch_can_take(publisher: Publisher) -> None:
    assert await put(publisher, b"x" * RECORD_LIMIT_BYTES) == [TOO_LARGE]


@pytest.mark.parametrize(
    "error", [OutOfOrderSequenceNumber(), UnknownProducerId(), KafkaConnectionError(), OSError()]
)
async def test_a_failed_producer_is_replaced_and_its_batch_is_not_sent_again(
    publisher: Publisher, log: HeldLog, error: BaseException
) -> None:
    log.failing.append(error)
    assert await put(publisher, count=3) == [KAFKA_FAILED] * 3
    assert await put(publisher) == [None]
    assert len(log.producers) == 2
    assert log.producers[0].stopped
    assert len(log.records("sendtrace.statuses")) == 1
    assert not publisher.broken.is_set()


async def test_several_failures_replace_a_producer_once(publisher: Publisher, log: HeldLog) -> None:
    log.acknowledging.clear()
    log.failing += [OutOfOrderSequenceNumber(), OutOfOrderSequenceNumber()]
    waiting = asyncio.ensure_future(put(publisher, b"x" * 600_000, count=2))
    await asyncio.sleep(0.02)
    log.acknowledging.set()
    assert await waiting == [KAFKA_FAILED] * 2
    assert await put(publisher) == [None]
    assert len(log.producers) == 2


@pytest.mark.parametrize("budget_seconds", [0.2])
async def test_while_no_producer_starts_requests_get_503_within_the_budget(
    publisher: Publisher, log: HeldLog
) -> None:
    log.failing.append(OutOfOrderSequenceNumber())
    log.failing_starts = 3
    assert await put(publisher) == [KAFKA_FAILED]
    assert await put(publisher) == [KAFKA_SLOW]
    assert publisher.in_flight.bytes == 0
    async with asyncio.timeout(60):
        while (answer := await put(publisher)) != [None]:
            assert answer == [KAFKA_SLOW]


async def test_bytes_of_a_producer_that_never_resolves_are_given_back_with_it(
    publisher: Publisher, log: HeldLog
) -> None:
    log.acknowledging.clear()
    hung = asyncio.ensure_future(put(publisher, b"x" * 500_000))
    await asyncio.sleep(0.02)
    publisher._suspect(log.producers[0], OutOfOrderSequenceNumber())
    assert await hung == [KAFKA_FAILED]
    assert publisher.in_flight.bytes == 0


async def test_a_bug_in_a_delivery_says_so_and_answers(publisher: Publisher, log: HeldLog) -> None:
    log.failing.append(ZeroDivisionError())
    assert await put(publisher) == [KAFKA_FAILED]
    assert publisher.broken.is_set()


async def test_a_waiter_that_is_cancelled_leaves_the_others_alone(
    publisher: Publisher, log: HeldLog
) -> None:
    log.acknowledging.clear()
    first, second = (asyncio.ensure_future(put(publisher)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    log.acknowledging.set()
    assert await second == [None]


async def test_records_without_a_key_spread_by_their_bytes(
    settings: Settings, log: HeldLog
) -> None:
    made = Publisher(log, settings, Metrics(CollectorRegistry()))
    await made.start()
    for number in range(30):
        await made.publish("quarantine", None, b"%d" % number, [])
    await made.stop()
    assert len({tp.partition for tp, entries in log.entries.items() if entries}) == 3
