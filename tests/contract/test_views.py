"""The warehouse's views, each on rows few enough to work its answer out by hand."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from sinks.migrate import migrate

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = datetime(2026, 11, 22, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
_numbers = itertools.count()


class Database:
    """A migrated database. What a test puts in is rolled back after it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def put(self, table: str, **values: object) -> None:
        names = ", ".join(values)
        marks = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        statement = f"insert into {table} ({names}) values ({marks})"
        await self.connection.execute(statement, *values.values())

    async def message(self, message_id: str, outcome: str, **values: object) -> None:
        usual: dict[str, object] = {
            "message_id": message_id, "outcome": outcome, "api": "messages", "channel": "sms",
            "account": "a1", "sender": "shop", "recipient": f"4474{next(_numbers)}",
            "country": "GB", "sent_at": NOON, "first_event_at": NOON + MINUTE,
            "is_final": outcome in ("read", "delivered", "rejected", "failed", "refused"),
            "is_open": outcome == "pending", "topic_epoch": 1, "source_partition": 0,
            "source_offset": 0,
        }  # fmt: skip
        await self.put("messages", **(usual | values))

    async def inbound(self, message_id: str, part: int = 1, **values: object) -> None:
        usual: dict[str, object] = {
            "message_id": message_id, "part": part, "api": "sms", "channel": "sms",
            "account": "a1", "sender": "447400000001", "recipient": "shop", "country": "GB",
            "arrived_at": NOON, "keyword_class": "none", "topic_epoch": 1, "source_partition": 0,
            "source_offset": 0,
        }  # fmt: skip
        await self.put("inbound", **(usual | values))

    async def ask(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(query)]


@pytest.fixture(scope="module")
async def migrated(postgres_server: str) -> AsyncIterator[str]:
    name = f"test_views_{os.getpid()}"
    admin = await asyncpg.connect(postgres_server)
    await admin.execute(f'create database "{name}" template template0')
    dsn = re.sub(r"(://[^/]*/)[^?]*", rf"\g<1>{name}", postgres_server)
    await migrate(dsn)
    yield dsn
    await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


@pytest.fixture
async def database(migrated: str) -> AsyncIterator[Database]:
    connection = await asyncpg.connect(migrated, server_settings={"timezone": "Asia/Tokyo"})
    transaction = connection.transaction()
    await transaction.start()
    yield Database(connection)
    await transaction.rollback()
    await connection.close()


async def test_delivery_by_cohort(database: Database) -> None:
    """Ten messages of one hour: six answered, four delivered, eight accepted. Test ones: none."""
    outcomes = [
        "delivered", "delivered", "delivered", "read", "failed", "rejected", "pending", "missing",
        "refused", "untracked",
    ]  # fmt: skip
    for n, outcome in enumerate(outcomes):
        latency = 1_000 * (n + 1) if outcome in ("delivered", "read") else None
        await database.message(f"m{n}", outcome, carrier_latency_ms=latency)
    await database.message("t", "failed", traffic="test")
    await database.message("late", "delivered", sent_at=NOON + HOUR, carrier_latency_ms=5)
    # Without a send, by its first event; its latency has Vonage's waiting in it.
    await database.message(
        "webhook", "delivered", sent_at=None, first_event_at=NOON - MINUTE, flags=["aggregated"],
        carrier_latency_ms=300_000,
    )  # fmt: skip
    found = await database.ask(
        "select send_hour, messages, accepted, answered, delivered, open, delivered_of_answered, "
        "delivered_of_accepted, carrier_latency_p50_ms, carrier_latency_p95_ms, "
        "carrier_latency_p99_ms from delivery_by_cohort order by send_hour"
    )
    four_of = (Decimal("0.6667"), Decimal("0.5"))
    assert found == [
        (NOON - HOUR, 1, 1, 1, 1, 0, 1, 1, None, None, None),
        (NOON, 10, 8, 6, 4, 1, *four_of, 2_500, 3_850, 3_970),
        (NOON + HOUR, 1, 1, 1, 1, 0, 1, 1, 5, 5, 5),
    ]


async def test_rates_of_nothing_are_unknown(database: Database) -> None:
    await database.message("m1", "refused")
    found = await database.ask(
        "select delivered_of_answered, delivered_of_accepted from delivery_by_cohort"
    )
    assert found == [(None, None)]


async def test_delivery_by_sender_and_network(database: Database) -> None:
    for n, (sender, network, outcome, code) in enumerate([
        ("shop", "23410", "delivered", None), ("shop", "23410", "failed", "1"),
        ("shop", "23410", "failed", "6"), ("shop", "23410", "failed", "6"),
        ("shop", "23420", "pending", None), ("bank", "23410", "delivered", None),
    ]):  # fmt: skip
        await database.message(f"m{n}", outcome, sender=sender, network_final=network, code=code)
    await database.message("m9", "delivered", sender="bank", network_estimated="23430")
    await database.message("t", "failed", sender="bank", network_final="23410", traffic="test")
    found = await database.ask(
        "select sender, network, accepted, answered, delivered, delivered_of_answered, "
        "commonest_code from delivery_by_sender_and_network order by sender, network"
    )
    assert found == [
        ("bank", "23410", 1, 1, 1, 1, None),
        ("bank", "23430", 1, 1, 1, 1, None),
        ("shop", "23410", 4, 4, 1, Decimal("0.25"), "6"),
        ("shop", "23420", 1, 0, 0, None, None),
    ]


async def test_spend_by_day_and_country(database: Database) -> None:
    euro = {"currency": "EUR", "cost_source": "event"}
    await database.message("m1", "delivered", cost=Decimal("0.03"), segments=2, **euro)
    await database.message("m2", "failed", cost=Decimal("0.04"), segments=1, **euro)
    guess = {"currency": "EUR", "cost_source": "estimate"}
    await database.message("m3", "pending", cost=Decimal("0.05"), **guess)
    await database.message("m4", "delivered", cost=Decimal("0.5"), country="US", currency="USD")
    await database.message("t", "delivered", cost=Decimal("0.01"), traffic="test", **euro)
    await database.message("free", "refused")
    midnight = DAY + timedelta(days=1)
    await database.message("m5", "delivered", cost=Decimal("0.07"), sent_at=midnight, **euro)
    await database.inbound("i1", cost=Decimal("0.002"), currency="EUR")
    found = await database.ask(
        "select day, direction, traffic, country, currency, messages, segments, cost, "
        "of_it_estimated from spend_by_day_and_country order by day, direction, traffic, country"
    )
    assert found == [
        (DAY, "inbound", "live", "GB", "EUR", 1, None, Decimal("0.002"), 0),
        (DAY, "outbound", "live", "GB", "EUR", 3, 3, Decimal("0.12"), Decimal("0.05")),
        (DAY, "outbound", "live", "US", "USD", 1, None, Decimal("0.5"), 0),
        (DAY, "outbound", "test", "GB", "EUR", 1, None, Decimal("0.01"), 0),
        (midnight, "outbound", "live", "GB", "EUR", 1, None, Decimal("0.07"), 0),
    ]


async def test_retryable(database: Database) -> None:
    """A code means something else in each family: 1 is throttled at the send, nothing in a receipt;
    7 is a busy handset in a receipt, and a barred number at the send."""
    for message_id, outcome, api, code in [
        ("busy", "failed", "sms", "7"),
        ("barred", "refused", "sms", "7"),
        ("throttled", "refused", "sms", "1"),
        ("throttled without a body", "refused", "sms", "http-429"),
        ("unclear", "failed", "sms", "1"),
        ("credit", "refused", "sms", "9"),
        ("limit", "refused", "messages", "429"),
        ("absent", "rejected", "messages", "1180"),
        ("dead", "rejected", "messages", "1190"),
        ("ttl", "rejected", "messages", "1360"),
        ("still open", "pending", "sms", "7"),
        ("arrived", "delivered", "messages", "1180"),
        ("nobody knows", "expired", "sms", "8"),
        ("unheard of", "failed", "sms", "777"),
    ]:
        await database.message(message_id, outcome, api=api, code=code)
    await database.message("t", "failed", api="sms", code="7", traffic="test")
    found = await database.ask("select message_id, code_name from retryable order by message_id")
    assert found == [
        ("absent", "absent subscriber, temporary"),
        ("busy", "handset busy"),
        ("limit", "rate limit"),
        ("throttled", "throttled"),
        ("throttled without a body", "rate limit"),
        ("ttl", "ttl reached"),
    ]


async def rollup(database: Database, rollup_id: str, **values: object) -> None:
    usual: dict[str, object] = {
        "id": rollup_id, "kind": "parts", "outcome": "partial", "is_final": True, "is_open": False,
        "known": 2, "delivered": 1, "account": "a1", "topic_epoch": 1, "source_partition": 0,
        "source_offset": 0,
    }  # fmt: skip
    await database.put("rollups", **(usual | values))


async def test_workflow_results(database: Database) -> None:
    """The send of a workflow is known of its first item alone; a long text's of every part."""
    first = {"workflow_id": "w1", "workflow_item": 1, "send_id": "s1", "client_ref": "order"}
    await database.message("m1", "rejected", channel="rcs", recipient="447400000001", **first)
    second = {"workflow_id": "w1", "workflow_item": 2, "sent_at": None}
    await database.message("m2", "delivered", recipient="447400000001", **second)
    await rollup(
        database, "w1", kind="failover", outcome="delivered", decided_by="m2", send_id="s1"
    )
    for part in (1, 2):
        await database.message(f"p{part}", "failed", send_id="s2", part=part, parts=2)
    await rollup(database, "s2", send_id="s2", expected=2)
    await rollup(database, "w9", kind="failover", outcome="pending")  # nothing else is known yet
    await rollup(database, "t", traffic="test")
    found = await database.ask(
        "select id, kind, send_id, sender, recipient, client_ref, sent_at, outcome, "
        "decided_channel, decided_item, expected from workflow_results order by id"
    )
    [(recipient,)] = await database.ask("select recipient from messages where message_id = 'p1'")
    assert found == [
        ("s2", "parts", "s2", "shop", recipient, None, NOON, "partial", None, None, 2),
        (
            "w1", "failover", "s1", "shop", "447400000001", "order", NOON, "delivered", "sms", 2,
            None,
        ),
        ("w9", "failover", None, None, None, None, None, "pending", None, None, None),
    ]  # fmt: skip


async def test_receipt_coverage(database: Database) -> None:
    for n, outcome in enumerate(["delivered", "failed", "expired", "unconfirmed", "missing"]):
        event = None if outcome == "missing" else NOON
        await database.message(f"m{n}", outcome, network_final="310260", first_event_at=event)
    outside: dict[str, dict[str, object]] = {
        "pending": {}, "untracked": {}, "refused": {}, "unconfirmed": {"receipt_expected": False},
        "delivered": {"traffic": "test"},
    }  # fmt: skip
    for outcome, values in outside.items():
        await database.message(f"no {outcome}", outcome, network_final="310260", **values)
    found = await database.ask(
        "select network, messages, with_any_event, with_an_answer, expired, unconfirmed, missing, "
        "coverage from receipt_coverage"
    )
    assert found == [("310260", 5, 4, 2, 1, 1, 1, Decimal("0.4"))]


async def test_vonage_report_by_hour(database: Database) -> None:
    """All that an account is billed for, test traffic beside the rest."""
    usual = {"currency": "EUR", "status_last": "delivered", "network_final": "23410"}
    for n in range(2):
        cost = Decimal("0.03")
        await database.message(f"m{n}", "delivered", cost=cost, segments=2, **usual)
    await database.message("t", "delivered", cost=Decimal("0.01"), traffic="test", **usual)
    later = NOON + HOUR
    await database.message("m3", "delivered", sent_at=later, cost=Decimal("0.05"), **usual)
    await database.message("refused", "refused")
    await database.inbound("i1", cost=Decimal("0.002"), currency="EUR", network="23410")
    found = await database.ask(
        "select hour, direction, traffic, network, status_last, messages, segments, cost "
        "from vonage_report_by_hour order by hour, direction, traffic"
    )
    assert found == [
        (NOON, "inbound", "live", "23410", None, 1, None, Decimal("0.002")),
        (NOON, "outbound", "live", "23410", "delivered", 2, 4, Decimal("0.06")),
        (NOON, "outbound", "test", "23410", "delivered", 1, None, Decimal("0.01")),
        (later, "outbound", "live", "23410", "delivered", 1, None, Decimal("0.05")),
    ]


async def test_unanswered_candidates(database: Database) -> None:
    """One alone has all three in common, in time, and only with one another."""

    async def send(name: str, recipient: str, **values: object) -> None:
        made = {"recipient": recipient, "client_ref": "r", "send_id": name, "first_event_at": None}
        await database.message(f"{name}.1", "unanswered", **(made | values))

    async def heard(name: str, recipient: str, after: timedelta, **values: object) -> None:
        made = {"recipient": recipient, "client_ref": "r", "sent_at": None}
        at = {"first_event_at": NOON + after}
        await database.message(name, "delivered", **(made | at | values))

    await send("s1", "1")
    await heard("found", "1", 10 * MINUTE)
    await send("s2", "2")
    await heard("too late", "2", 11 * MINUTE)
    await send("s3", "3")
    await heard("of another account", "3", MINUTE, account="a2")
    await heard("with another reference", "3", MINUTE, client_ref="q")
    await heard("with a send", "3", MINUTE, send_id="s9")
    await send("s4", "4")
    await heard("one of two", "4", MINUTE)
    await heard("two of two", "4", 2 * MINUTE)
    await send("s5", "5")
    await send("s6", "5")
    await heard("claimed twice", "5", MINUTE)
    await send("s7", "7", client_ref=None)
    await heard("without a reference", "7", MINUTE, client_ref=None)
    found = await database.ask(
        "select unanswered_id, candidate_id, is_guess from unanswered_candidates"
    )
    assert found == [("s1.1", "found", True)]


async def test_open_messages_by_age(database: Database) -> None:
    now = datetime.now(UTC)
    ages = [MINUTE, 11 * MINUTE, 12 * MINUTE, 2 * HOUR, 30 * HOUR, 80 * HOUR]
    for n, age in enumerate(ages):
        await database.message(f"m{n}", "pending", sent_at=now - age)
    await database.message("done", "delivered", sent_at=now - MINUTE)
    await database.message("t", "pending", sent_at=now - MINUTE, traffic="test")
    found = await database.ask(
        "select age, messages, oldest_started_at from open_messages_by_age "
        "order by oldest_started_at desc"
    )
    assert found == [
        ("under 10 minutes", 1, now - ages[0]),
        ("under 1 hour", 2, now - ages[2]),
        ("under 24 hours", 1, now - ages[3]),
        ("under 72 hours", 1, now - ages[4]),
        ("72 hours and more", 1, now - ages[5]),
    ]


async def test_latest_balance(database: Database) -> None:
    """Of the latest send; of its parts the last one, whose balance is the lowest."""
    for n, (account, minutes, part, balance) in enumerate([
        ("a1", 0, 1, "9.0"), ("a1", 5, 1, "8.0"), ("a1", 5, 2, "7.9"), ("a1", 3, 1, "8.5"),
        ("a2", 1, 1, "100"),
    ]):  # fmt: skip
        at = NOON + minutes * MINUTE
        known = {"sent_at": at, "part": part, "balance": Decimal(balance)}
        await database.message(f"m{n}", "pending", account=account, **known)
    await database.message("no balance", "pending", sent_at=NOON + HOUR)
    found = await database.ask("select account, balance, as_of from latest_balance")
    assert found == [
        ("a1", Decimal("7.9"), NOON + 5 * MINUTE),
        ("a2", Decimal(100), NOON + MINUTE),
    ]


async def test_inbound_messages(database: Database) -> None:
    def part(number: int, minutes: int = 0, total: int = 2, **values: object) -> dict[str, Any]:
        at = {"arrived_at": NOON + minutes * MINUTE, "concat_ref": "7", "concat_total": total}
        return at | {"part": number, "text_length": 10} | values

    # Out of order; the STOP is in the first part.
    cost = {"cost": Decimal("0.01"), "currency": "EUR"}
    await database.inbound("b", **part(2, 0, text="lo", **cost))
    await database.inbound("a", **part(1, 1, text="hel", keyword_class="STOP", **cost))
    # The same mark two days later is another text, of which a part is not here yet.
    await database.inbound("c", **part(1, 2 * 24 * 60, text="x"))
    # The same mark within the hour, and a part of it twice, are further texts.
    for message_id, number, minutes, text in (
        ("f1", 1, 0, "the "), ("f2", 2, 1, "first"), ("g1", 1, 60, "the "), ("g2", 2, 61, "second"),
        ("h2", 2, 62, "second"),
    ):  # fmt: skip
        values = {"sender": "447400000003", "text": text}
        await database.inbound(message_id, **part(number, minutes, **values))
    # Another sender's, without its text.
    for n in (1, 2):
        await database.inbound(f"d{n}", **part(n, sender="447400000002"))
    # Without a mark each is its own.
    await database.inbound("e1", text_length=3, text="one")
    await database.inbound("e2", text_length=3, text="two")
    found = await database.ask(
        "select message_ids, parts_known, parts, is_complete, text, text_length, keyword_class, "
        "cost, first_part_at, last_part_at from inbound_messages order by message_ids"
    )
    after = NOON + 2 * 24 * HOUR
    assert found == [
        (
            ["a", "b"], 2, 2, True, "hello", 20, "STOP", Decimal("0.02"), NOON, NOON + MINUTE,
        ),
        (["c"], 1, 2, False, None, 10, "none", None, after, after),
        (["d1", "d2"], 2, 2, True, None, 20, "none", None, NOON, NOON),
        (["e1"], 1, 1, True, "one", 3, "none", None, NOON, NOON),
        (["e2"], 1, 1, True, "two", 3, "none", None, NOON, NOON),
        (["f1", "f2"], 2, 2, True, "the first", 20, "none", None, NOON, NOON + MINUTE),
        (
            ["g1", "g2"], 2, 2, True, "the second", 20, "none", None, NOON + HOUR,
            NOON + HOUR + MINUTE,
        ),
        (["h2"], 1, 2, False, None, 10, "none", None, NOON + HOUR + 2 * MINUTE,
         NOON + HOUR + 2 * MINUTE),
    ]  # fmt: skip


async def test_stop_and_dead_numbers(database: Database) -> None:
    for n, (recipient, outcome, api, code) in enumerate([
        ("1", "failed", "sms", "9"), ("1", "rejected", "messages", "1240"),
        ("2", "rejected", "messages", "1050"), ("3", "failed", "sms", "3"),
        ("4", "rejected", "messages", "1190"),
        # No credit and a wrong parameter at the send have the same numbers.
        ("5", "refused", "sms", "9"), ("6", "refused", "sms", "3"),
        ("7", "delivered", "messages", "1240"), ("8", "failed", "sms", "6"),
    ]):  # fmt: skip
        at = {"outcome_at": NOON + n * MINUTE, "code": code}
        await database.message(f"m{n}", outcome, recipient=recipient, api=api, **at)
    await database.message("t", "failed", recipient="9", api="sms", code="9", traffic="test")
    back = {"recipient": "3", "delivered_at": NOON + HOUR}
    await database.message("alive again", "delivered", **back)
    await database.inbound("i1", sender="10", keyword_class="STOP")
    await database.inbound("i2", sender="11", keyword_class="HELP")
    found = await database.ask(
        "select number, reason, sender, times, code, last_told_at, last_delivered_at "
        "from stop_and_dead_numbers order by number::integer"
    )
    assert found == [
        ("1", "stop", "shop", 2, "9", NOON + MINUTE, None),
        ("2", "stop", "shop", 1, "1050", NOON + 2 * MINUTE, None),
        ("3", "dead", "shop", 1, "3", NOON + 3 * MINUTE, NOON + HOUR),
        ("4", "dead", "shop", 1, "1190", NOON + 4 * MINUTE, None),
        ("10", "stop", "shop", 1, None, NOON, None),
    ]


async def test_cost_per_delivered(database: Database) -> None:
    for n, (outcome, cost) in enumerate([
        ("delivered", "0.03"), ("read", "0.03"), ("failed", "0.03"), ("pending", "0.03"),
        ("refused", "0"),
    ]):  # fmt: skip
        await database.message(f"m{n}", outcome, cost=Decimal(cost), currency="EUR")
    await database.message("us", "failed", cost=Decimal("0.5"), currency="EUR", country="US")
    await database.message("t", "failed", cost=Decimal(9), currency="EUR", traffic="test")
    found = await database.ask(
        "select country, cost, delivered, cost_per_delivered from cost_per_delivered "
        "order by country"
    )
    assert found == [
        ("GB", Decimal("0.09"), 2, Decimal("0.045")),
        ("US", Decimal("0.5"), 0, None),
    ]


async def test_estimate_against_final(database: Database) -> None:
    for n, (estimate, cost, source) in enumerate([
        ("0.03", "0.04", "event"), ("0.03", "0.03", "event"), (None, "0.05", "event"),
        ("0.03", "0.03", "estimate"),
    ]):  # fmt: skip
        told = {"cost": Decimal(cost), "cost_source": source, "currency": "EUR"}
        guess = {"estimate": None if estimate is None else Decimal(estimate)}
        await database.message(f"m{n}", "delivered", network_final="23410", **told, **guess)
    found = await database.ask(
        "select network, messages, estimate, final, difference from estimate_against_final"
    )
    assert found == [("23410", 2, Decimal("0.06"), Decimal("0.07"), Decimal("0.01"))]


async def test_codes_first_seen(database: Database) -> None:
    for n, (api, code) in enumerate([
        ("sms", "6"), ("sms", "6"), ("sms", "777"), ("messages", "1360"), ("messages", None),
    ]):  # fmt: skip
        await database.message(f"m{n}", "failed", api=api, code=code, outcome_at=NOON + n * MINUTE)
    await database.message("t", "failed", api="sms", code="778", traffic="test")
    found = await database.ask(
        "select code_family, code, code_name, is_unknown, first_seen_at, last_seen_at, messages "
        "from codes_first_seen order by first_seen_at"
    )
    assert found == [
        ("dlr", "6", "anti-spam rejection", False, NOON, NOON + MINUTE, 2),
        ("dlr", "777", None, True, NOON + 2 * MINUTE, NOON + 2 * MINUTE, 1),
        ("messages", "1360", "ttl reached", False, NOON + 3 * MINUTE, NOON + 3 * MINUTE, 1),
    ]


async def test_message_timeline(database: Database) -> None:
    answered = {"answer": "accepted", "answer_status": "202"}
    await database.message("m1", "delivered", send_id="s1", **answered)
    await database.message("m2", "delivered")
    for n, status in enumerate(["submitted", "delivered"], 1):
        await database.put(
            "message_events", message_id="m1", kind="status", status=status, code="", segment="",
            account="a1", arrived_at=NOON + n * MINUTE,
        )  # fmt: skip
    found = await database.ask(
        "select message_id, at, kind, status, code from message_timeline order by at"
    )
    assert found == [
        ("m1", NOON, "send", "accepted", "202"),
        ("m1", NOON + MINUTE, "status", "submitted", ""),
        ("m1", NOON + 2 * MINUTE, "status", "delivered", ""),
    ]
