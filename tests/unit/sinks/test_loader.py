"""The loader: nothing lost, nothing twice, whatever is away, and stops on another log."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from schemas.codec import encode, header
from schemas.lifecycle import Lifecycle, Summary
from schemas.rollup import Rollup, RollupSummary
from sendtrace.runtime import loop as runtime_loop
from sendtrace.runtime import service, topic_watch
from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.quarantine import SAMPLE, TooMuchQuarantine
from sendtrace.runtime.service import Health
from sendtrace.runtime.settings import Settings
from sendtrace.runtime.task import PositionLost
from sendtrace.runtime.topics import TopicChanged
from sinks import loader
from sinks.changes import RowReason
from sinks.loader import inbound_reading, load, require_all_partitions
from sinks.postgres import Position, Source, SourceChanged, WarehouseAway
from sinks.rows import MESSAGES

from fakes.log import Entry, MemoryLog, MemoryProducer
from fakes.warehouse import MemoryWarehouse

SETTINGS = Settings(partitions=3, loader_interval_ms=1)
TOPIC = "sendtrace.lifecycles"
PARTITIONS = [Partition(TOPIC, p) for p in range(3)]
ROWS = "sendtrace_loader_rows_total"
OUTCOME = MESSAGES.names.index("outcome")


def put(log: MemoryLog, message_id: str, outcome: str = "delivered", partition: int = 0) -> None:
    summary = Summary(outcome=outcome)  # type: ignore[arg-type]
    value = encode(Lifecycle(message_id=message_id, summary=summary))
    log.put(TOPIC, partition, message_id.encode(), value)


def outcomes(warehouse: MemoryWarehouse) -> dict[str, object]:
    return {message_id: row[OUTCOME] for message_id, row in warehouse.rows.items()}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # the loader has no event to wait for
            await asyncio.sleep(0.001)


def saved(warehouse: MemoryWarehouse) -> dict[int, int]:
    """The positions in `lifecycles`."""
    return {p.partition: at.next for p, at in warehouse.offsets.items() if p.topic == TOPIC}


@asynccontextmanager
async def loading(
    log: MemoryLog,
    warehouse: MemoryWarehouse,
    registry: CollectorRegistry | None = None,
    settings: Settings = SETTINGS,
    *,
    accept_gap: bool = False,
) -> AsyncIterator[Health]:
    stopping, health = asyncio.Event(), Health()
    task = asyncio.create_task(
        load(log, warehouse, settings, health, stopping, registry, accept_gap=accept_gap)
    )
    try:
        yield health
    finally:
        stopping.set()
        await asyncio.wait_for(task, 60)


async def load_until_it_fails(
    log: MemoryLog, warehouse: MemoryWarehouse, cluster_id: str | None = None
) -> None:
    loading = load(log, warehouse, SETTINGS, Health(), asyncio.Event(), cluster_id=cluster_id)
    await asyncio.wait_for(loading, 60)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "FIRST_PAUSE_SECONDS", 0.001)


async def test_loads_all_partitions_and_goes_on() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put(log, "m1", "pending")
    put(log, "m2", partition=2)
    async with loading(log, warehouse) as health:
        await until(lambda: len(warehouse.rows) == 2)
        assert health.ready
        put(log, "m1", "read")
        await until(lambda: outcomes(warehouse) == {"m1": "read", "m2": "delivered"})
        await until(lambda: saved(warehouse) == {0: 2, 1: 0, 2: 1})


async def test_a_restart_goes_on_where_the_warehouse_is() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put(log, "m1")
    async with loading(log, warehouse):
        await until(lambda: saved(warehouse)[0] == 1 if warehouse.offsets else False)
    warehouse.rows.clear()  # what was loaded is not loaded again
    put(log, "m2")
    async with loading(log, warehouse):
        await until(lambda: bool(warehouse.rows))
    assert list(warehouse.rows) == ["m2"]


async def test_waiting_for_a_database_is_not_being_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    now, tries = 1_000.0, 0
    monkeypatch.setattr(service, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(loader, "LONGEST_PAUSE_SECONDS", 0.001)
    health = Health(stuck_seconds=100)
    health.moved("the loop")

    async def away() -> int:
        nonlocal now, tries
        now, tries = now + 60, tries + 1
        assert not health.why_not_live()
        if tries < 10:
            raise WarehouseAway("PostgreSQL: away")
        return tries

    metrics = loader.LoaderMetrics(CollectorRegistry())
    assert await loader.patiently(away, health, asyncio.Event(), metrics) == 10


async def test_waits_for_a_database_that_is_away_and_loses_nothing() -> None:
    log, warehouse, registry = MemoryLog(), MemoryWarehouse(), CollectorRegistry()
    warehouse.away = 3
    put(log, "m1")
    async with loading(log, warehouse, registry) as health:
        await until(lambda: len(warehouse.rows) == 1)
        warehouse.away = 5
        put(log, "m2")
        await until(lambda: not health.ready)
        await until(lambda: len(warehouse.rows) == 2)
        await until(lambda: health.ready)
    assert registry.get_sample_value("sendtrace_loader_retries_total") == 8


async def test_a_lost_answer_of_a_commit_that_held_doubles_nothing() -> None:
    log, warehouse, registry = MemoryLog(), MemoryWarehouse(), CollectorRegistry()
    warehouse.lost_answers = 1
    put(log, "m1")
    async with loading(log, warehouse, registry):
        await until(lambda: registry.get_sample_value("sendtrace_loop_recoveries_total") == 2)
        put(log, "m2")
        await until(lambda: len(warehouse.rows) == 2)
    assert registry.get_sample_value(ROWS, {"table": "messages"}) == 1


async def test_of_two_loaders_one_is_ahead_and_both_go_on() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    async with loading(log, warehouse), loading(log, warehouse):
        for number in range(50):
            put(log, f"m{number}", partition=number % 3)
            await asyncio.sleep(0.002)
        await until(lambda: len(warehouse.rows) == 50)
        await until(lambda: sum(saved(warehouse).values()) == 50)


async def test_what_cannot_be_read_is_in_quarantine_before_the_position_moves() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    async with loading(log, warehouse) as health:
        await until(lambda: health.ready)
        warehouse.away = 1_000_000
        put(log, "m1")
        log.put(TOPIC, 0, b"m2", b"not a lifecycle", [("x", b"1")])
        put(log, "m3")
        await until(lambda: bool(log.records("sendtrace.quarantine")))
        assert saved(warehouse)[0] == 0
        warehouse.away = 0
        await until(lambda: saved(warehouse)[0] == 3)
    assert list(warehouse.rows) == ["m1", "m3"]
    [kept] = log.records("sendtrace.quarantine")  # once, however often the write was tried
    assert (kept.key, kept.value) == (b"m2", b"not a lifecycle")
    assert header(kept.headers, "x") == "1"
    assert header(kept.headers, "reason") == RowReason.UNDECODABLE.value
    assert header(kept.headers, "st_origin") == "lifecycles-0-1"


async def test_without_an_acknowledgement_of_quarantine_nothing_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not waited for without end (docs/aiokafka.md 9)."""
    log, warehouse = MemoryLog(), MemoryWarehouse()
    log.put(TOPIC, 0, b"m1", b"not a lifecycle")

    async def unanswered(*_: object, **__: object) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(MemoryProducer, "send_batch", unanswered)
    monkeypatch.setattr(loader, "QUARANTINE_ACK_SECONDS", 0.05)
    async with asyncio.timeout(10):
        with pytest.raises(loader.DependencyAway):
            await load_until_it_fails(log, warehouse)
    assert saved(warehouse) == {0: 0, 1: 0, 2: 0}


async def test_a_failed_acknowledgement_of_quarantine_moves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    log.put(TOPIC, 0, b"m1", b"not a lifecycle")

    async def refused(*_: object, **__: object) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(KafkaError())
        return future

    monkeypatch.setattr(MemoryProducer, "send_batch", refused)
    with pytest.raises(KafkaError):
        await load_until_it_fails(log, warehouse)
    assert saved(warehouse) == {0: 0, 1: 0, 2: 0}


async def test_a_flood_of_unusable_records_stops_the_process() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    for _ in range(SAMPLE):
        log.put(TOPIC, 0, b"m1", b"not a lifecycle")
    with pytest.raises(TooMuchQuarantine):
        await load_until_it_fails(log, warehouse)
    assert saved(warehouse) == {0: 0, 1: 0, 2: 0}
    assert log.records("sendtrace.quarantine") == []


async def test_a_stop_does_not_wait_for_a_database_that_is_away() -> None:
    log, warehouse, stopping = MemoryLog(), MemoryWarehouse(), asyncio.Event()
    task = asyncio.create_task(load(log, warehouse, SETTINGS, Health(), stopping))
    await until(lambda: bool(warehouse.offsets))
    put(log, "m1")
    warehouse.away = 1_000_000
    await until(lambda: warehouse.away < 1_000_000)
    left = warehouse.away
    stopping.set()
    with pytest.raises(WarehouseAway):
        await asyncio.wait_for(task, 60)
    assert left - warehouse.away <= 2


async def test_forgotten_deletes_and_expired_keeps() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put(log, "m1")
    put(log, "m2")
    async with loading(log, warehouse):
        await until(lambda: len(warehouse.rows) == 2)
        log.put(TOPIC, 0, b"m1", None, [("reason", b"expired")])
        log.put(TOPIC, 0, b"m2", None, [("reason", b"forgotten")])
        await until(lambda: list(warehouse.rows) == ["m1"])
        await until(lambda: saved(warehouse)[0] == 4)


async def test_an_erased_lifecycle_deletes_the_row_and_nothing_is_refused() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put(log, "m1")
    put(log, "m2")
    async with loading(log, warehouse):
        await until(lambda: len(warehouse.rows) == 2)
        erased = Lifecycle(message_id="m1", erased=True, erased_at_us=1)
        log.put(TOPIC, 0, b"m1", encode(erased))
        await until(lambda: list(warehouse.rows) == ["m2"])
        await until(lambda: saved(warehouse)[0] == 3)
        log.put(TOPIC, 0, b"m1", None, [("reason", b"forgotten")])
        await until(lambda: saved(warehouse)[0] == 4)
    assert list(warehouse.rows) == ["m2"]
    assert log.records("sendtrace.quarantine") == []


async def test_rollups_and_inbound_are_loaded_beside_the_messages() -> None:
    log, warehouse, registry = MemoryLog(), MemoryWarehouse(), CollectorRegistry()
    put(log, "m1")
    rollup = Rollup(id="s1", summary=RollupSummary(outcome="partial"))
    log.put("sendtrace.rollups", 1, b"s1", encode(rollup))
    came = b'{"messageId":"i1","msisdn":"447400123456","to":"447700900000","text":"hi"}'
    log.put("sendtrace.inbound", 2, b"447400123456", came)
    log.put("sendtrace.inbound", 2, b"447400123456", came)
    log.put("sendtrace.inbound", 2, b"447400123456", b"not JSON")
    async with loading(log, warehouse, registry):
        await until(lambda: bool(warehouse.rows and warehouse.rollups and warehouse.inbound))
        await until(lambda: warehouse.offsets[Partition("sendtrace.inbound", 2)].next == 3)
    assert list(warehouse.inbound) == [("i1", 1)]
    [kept] = log.records("sendtrace.quarantine")
    assert kept.value == b"not JSON"
    assert header(kept.headers, "st_origin") == "inbound-2-2"
    for table, number in {"messages": 1, "message_events": 0, "rollups": 1, "inbound": 1}.items():
        assert registry.get_sample_value(ROWS, {"table": table}) == number


def test_what_settings_say_about_inbound_messages(tmp_path: Path) -> None:
    accounts = tmp_path / "accounts.toml"
    accounts.write_text('[accounts.a1]\ncurrency = "GBP"\nsms = "required"\n')
    settings = msgspec.structs.replace(
        SETTINGS, text="keep", default_currency="USD", test_accounts="a1, a2",
        accounts_file=str(accounts),
    )  # fmt: skip
    reading = inbound_reading(settings)
    assert reading == (True, "USD", {"a1": "GBP"}, {"a1", "a2"})
    assert inbound_reading(SETTINGS) == (False, "EUR", {}, set())


async def test_a_warehouse_that_knew_lifecycles_alone_begins_with_the_other_topics() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put(log, "m1")
    put(log, "m2")
    await warehouse.adopt(dict.fromkeys(PARTITIONS, 0) | {PARTITIONS[0]: 1})
    log.put("sendtrace.rollups", 0, b"s1", None, [("reason", b"forgotten")])
    async with loading(log, warehouse):
        await until(lambda: list(warehouse.rows) == ["m2"])
        await until(lambda: len(warehouse.offsets) == 9)
        await until(lambda: warehouse.offsets[Partition("sendtrace.rollups", 0)].next == 1)


async def test_one_row_that_the_database_refuses_does_not_hold_the_others_up() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    warehouse.refused = {"bad"}
    for number in range(20):
        summary = Summary(outcome="delivered", sender="bad" if number in (3, 11) else "good")
        key = f"m{number}"
        log.put(TOPIC, number % 3, key.encode(), encode(Lifecycle(message_id=key, summary=summary)))
    log.put(TOPIC, 0, b"m0", None, [("reason", b"forgotten")])
    registry = CollectorRegistry()
    async with loading(log, warehouse, registry):
        await until(lambda: sum(saved(warehouse).values()) == 21)
        put(log, "later")
        await until(lambda: "later" in warehouse.rows)
    assert set(warehouse.rows) == {f"m{n}" for n in range(1, 20)} - {"m3", "m11"} | {"later"}
    kept = log.records("sendtrace.quarantine")
    assert sorted(entry.key or b"" for entry in kept) == [b"m11", b"m3"]
    assert {header(entry.headers, "reason") for entry in kept} == {RowReason.REFUSED}
    assert registry.get_sample_value(ROWS, {"table": "messages"}) == 18, "rows that were written"


async def test_what_is_refused_is_in_quarantine_before_the_position_moves() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    warehouse.refused = {"bad"}
    log.failing_plain_sends = [KafkaError()]
    summary = Summary(outcome="delivered", sender="bad")
    log.put(TOPIC, 0, b"m1", encode(Lifecycle(message_id="m1", summary=summary)))
    with pytest.raises(KafkaError):
        await load_until_it_fails(log, warehouse)
    assert saved(warehouse)[0] == 0


async def test_old_rows_are_deleted_where_a_retention_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader, "PURGE_PAUSE_SECONDS", 0.01)
    registry = CollectorRegistry()
    for days, left in ((0, ["new", "old"]), (30, ["new"])):
        log, warehouse = MemoryLog(), MemoryWarehouse()
        now_us = time.time_ns() // 1000
        for message_id, sent_at_us in (("old", now_us - 31 * 86_400_000_000), ("new", now_us)):
            summary = Summary(outcome="delivered", sent_at_us=sent_at_us)
            value = encode(Lifecycle(message_id=message_id, summary=summary))
            log.put(TOPIC, 0, message_id.encode(), value)
        settings = msgspec.structs.replace(SETTINGS, warehouse_retention_days=days)
        async with loading(log, warehouse, registry if days else None, settings):
            await until(lambda: saved(warehouse).get(0) == 2)  # noqa: B023
            await until(lambda: sorted(warehouse.rows) == left)  # noqa: B023
    assert registry.get_sample_value("sendtrace_loader_purged_total") == 1


async def test_a_retention_that_fails_stops_the_loader() -> None:
    class Failing(MemoryWarehouse):
        async def purge(self, before: datetime, limit: int) -> int:
            raise PermissionError("no DELETE on messages")

    settings = msgspec.structs.replace(SETTINGS, warehouse_retention_days=1)
    with pytest.raises(PermissionError):
        await asyncio.wait_for(
            load(MemoryLog(), Failing(), settings, Health(), asyncio.Event()), 60
        )


async def test_another_cluster_stops_it() -> None:
    warehouse = MemoryWarehouse()
    await warehouse.remember(Source(TOPIC, "cluster-a"))
    with pytest.raises(SourceChanged):
        await load_until_it_fails(MemoryLog(), warehouse, "cluster-b")


async def test_a_log_shorter_than_the_saved_position_stops_it() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put(log, "m1")
    warehouse.offsets = {p: Position(5, 1) for p in PARTITIONS}
    with pytest.raises(PositionLost, match=r"read is 5, .* ends at 1: .*--accept-gap"):
        await load_until_it_fails(log, warehouse)
    assert not warehouse.rows


def test_another_number_of_partitions_stops_it() -> None:
    with pytest.raises(SourceChanged, match="for life"):
        require_all_partitions(PARTITIONS[:2], PARTITIONS)


INBOUND = Partition("sendtrace.inbound", 0)


def put_inbound(log: MemoryLog, number: int = 1) -> None:
    for _ in range(number):
        log.put(INBOUND.topic, INBOUND.partition, None, b"of no use")


async def loaded_inbound(log: MemoryLog, warehouse: MemoryWarehouse, until_offset: int) -> None:
    async with loading(log, warehouse):
        await until(lambda: warehouse.offsets.get(INBOUND, Position(0, 1)).next == until_offset)


def figures(registry: CollectorRegistry) -> list[float | None]:
    return [
        registry.get_sample_value(f"sendtrace_loader_{name}_total", {"topic": "inbound"})
        for name in ("gaps", "gap_records")
    ]


async def test_inbound_deleted_unread_stops_it_and_is_counted_where_that_is_accepted() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put_inbound(log, 4)
    await loaded_inbound(log, warehouse, 4)
    put_inbound(log, 6)
    log.delete_until(INBOUND, 9)
    with pytest.raises(PositionLost, match=r"inbound-0: .* 5 offsets were deleted .*--accept-gap"):
        await load_until_it_fails(log, warehouse)
    assert warehouse.offsets[INBOUND].next == 4
    registry, again = CollectorRegistry(), CollectorRegistry()
    loader.LoaderMetrics(before := CollectorRegistry())
    assert figures(before) == [None, None]
    async with loading(log, warehouse, registry, accept_gap=True):
        await until(lambda: warehouse.offsets[INBOUND].next == 10)
    assert warehouse.offsets[INBOUND].topic_epoch == 1
    async with loading(log, warehouse, again, accept_gap=True):
        await until(lambda: figures(again) == [1, 5])
    assert figures(registry) == [1, 5]


async def test_a_topic_made_anew_stops_it_and_is_loaded_where_that_is_accepted() -> None:
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put(log, "m1", "delivered")
    put(log, "m2", "delivered")
    async with loading(log, warehouse):
        await until(lambda: len(warehouse.rows) == 2)
    log.remake(TOPIC)
    put(log, "m1", "failed")
    for _ in range(3):
        put(log, "m3", "pending")
    with pytest.raises(PositionLost, match=r"made anew.*--accept-gap to go on at offset 0"):
        await load_until_it_fails(log, warehouse)
    assert outcomes(warehouse) == {"m1": "delivered", "m2": "delivered"}
    async with loading(log, warehouse, accept_gap=True):
        await until(lambda: "m3" in warehouse.rows)
    # Its offset is lower than that of the row before, and it is later all the same.
    assert outcomes(warehouse) == {"m1": "failed", "m2": "delivered", "m3": "pending"}
    async with loading(log, warehouse) as health:
        await until(lambda: health.ready)


async def test_a_topic_made_anew_while_it_is_read_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "LOOK_SECONDS", 0.01)
    log, warehouse = MemoryLog(), MemoryWarehouse()
    with pytest.raises(TopicChanged, match="lifecycles was made anew"):
        async with loading(log, warehouse) as health:
            await until(lambda: health.ready)
            log.remake(TOPIC)
            await asyncio.sleep(1)


async def test_partitions_added_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "LOOK_SECONDS", 0.01)
    log, warehouse = MemoryLog(), MemoryWarehouse()
    with pytest.raises(TopicChanged, match="rollups has 4 partitions and must have 3"):
        async with loading(log, warehouse, accept_gap=True) as health:
            await until(lambda: health.ready)
            log.counts["sendtrace.rollups"] = 4
            await asyncio.sleep(1)


async def test_records_deleted_while_they_are_to_be_read_stop_it() -> None:
    """A reset to the log's beginning would skip them in silence."""
    log, warehouse = MemoryLog(), MemoryWarehouse()
    with pytest.raises(PositionLost, match=r"offset 0 of sendtrace\.inbound-0 is not there"):
        async with loading(log, warehouse) as health:
            await until(lambda: health.ready)
            put_inbound(log, 3)
            log.delete_until(INBOUND, 2)
            await asyncio.sleep(1)


async def test_control_records_at_the_end_of_inbound_are_no_gap_once_they_are_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`sendtrace replay` leaves them: it writes in transactions."""
    monkeypatch.setattr(runtime_loop, "LAG_SECONDS", 0.01)
    log, warehouse = MemoryLog(), MemoryWarehouse()
    put_inbound(log)
    log.log(INBOUND).append(Entry(None, None, (), 0, None, control=True))
    await loaded_inbound(log, warehouse, 2)
    log.delete_until(INBOUND, 2)
    async with loading(log, warehouse) as health:
        await until(lambda: health.ready)
