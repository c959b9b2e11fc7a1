"""What becomes of a quarantined record now."""

import pytest

from schemas import topics
from schemas.codec import (
    TYPE_INBOUND_V01,
    TYPE_QUARANTINE,
    TYPE_RECEIPT,
    TYPE_SEND,
    TYPE_STATUS,
    Headers,
    encode,
    header,
)
from schemas.events import Send
from sendtrace.replay.judging import Again, Why, judge
from sendtrace.runtime.quarantine import quarantine_headers
from sinks.changes import RowReason

STATUS = b'{"message_uuid":"m1","status":"delivered","timestamp":"2026-11-22T05:00:01Z"}'
RECEIPT = b"messageId=m2&msisdn=447700900000&status=delivered&err-code=0"
INBOUND = (
    b'{"message_uuid":"m3","from":{"type":"sms","number":"447700900000"},'
    b'"to":{"type":"sms","number":"447700900001"},"timestamp":"2026-11-22T05:00:01Z",'
    b'"message":{"content":{"type":"text","text":"Hello"}},"direction":"inbound"}'
)
SEND = encode(Send(message_id="m4", send_id="s4", api="sms", arrived_at_us=1))
CAME = "2026-11-21T10:11:12.123456Z"
EDGE: Headers = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"abc"),
    ("ce_type", TYPE_QUARANTINE.encode()),
    ("ce_source", b"//abcd1234/webhooks/status"),
    ("ce_time", CAME.encode()),
    ("ce_verified", b"jwt"),
    ("ce_afterrefusal", b"true"),
]
APPENDED_US = 1_763_800_000_000_000


def of_edge(reason: str, content_type: str | None = "application/json") -> Headers:
    content: Headers = [("content-type", content_type.encode())] if content_type else []
    return [*EDGE, *content, ("reason", reason.encode())]


def of_processor(topic: str, reason: str, ce_type: str | None) -> Headers:
    own = [each for each in EDGE if each[0] != "ce_type"]
    return quarantine_headers(
        [*own, ("ce_type", ce_type.encode())] if ce_type else own, f"{topic}-3-17", reason
    )


@pytest.mark.parametrize(
    ("value", "content_type", "topic", "key", "ce_type"),
    [
        (STATUS, "application/json", topics.STATUSES, b"m1", TYPE_STATUS),
        (RECEIPT, "application/x-www-form-urlencoded", topics.RECEIPTS, b"m2", TYPE_RECEIPT),
        (INBOUND, None, topics.INBOUND, b"447700900000", TYPE_INBOUND_V01),
    ],
)
def test_a_webhook_goes_where_the_edge_would_put_it_with_the_headers_it_had(
    value: bytes, content_type: str | None, topic: str, key: bytes, ce_type: str
) -> None:
    headers = of_edge("not JSON", content_type)
    told = judge(value, headers, "quarantine-1-5", APPENDED_US)
    assert isinstance(told, Again)
    assert (told.topic, told.key) == (topic, key)
    expected = {**dict(headers), "ce_type": ce_type.encode(), "st_replayed": b"quarantine-1-5"}
    del expected["reason"]
    assert dict(told.headers) == expected
    assert len(told.headers) == len(expected)


def test_what_the_joiner_put_aside_keeps_its_own_type_and_loses_its_origin() -> None:
    headers = of_processor(topics.STATUSES, "no status", "com.example.status")
    told = judge(STATUS, headers, "quarantine-0-0", APPENDED_US)
    assert isinstance(told, Again)
    assert header(told.headers, "ce_type") == "com.example.status"
    assert {name for name, _ in told.headers}.isdisjoint({"reason", "st_origin"})


def test_what_stood_in_the_wrong_topic_gets_the_type_of_the_right_one() -> None:
    form = ("content-type", b"application/x-www-form-urlencoded")
    headers = [*of_processor(topics.STATUSES, "x", TYPE_STATUS), form]
    told = judge(RECEIPT, headers, "quarantine-0-0", APPENDED_US)
    assert isinstance(told, Again)
    assert (told.topic, header(told.headers, "ce_type")) == (topics.RECEIPTS, TYPE_RECEIPT)


@pytest.mark.parametrize("ce_type", [TYPE_SEND, None])
def test_a_send_goes_to_sends(ce_type: str | None) -> None:
    headers = of_processor(topics.SENDS, "send record of a kind not yet understood", ce_type)
    told = judge(SEND, headers, "quarantine-0-0", APPENDED_US)
    assert isinstance(told, Again)
    assert (told.topic, told.key) == (topics.SENDS, b"m4")
    assert header(told.headers, "ce_type") == ce_type


def test_a_record_put_aside_twice_has_one_mark() -> None:
    headers = [*of_edge("not JSON"), ("st_replayed", b"quarantine-2-2")]
    told = judge(STATUS, headers, "quarantine-1-5", APPENDED_US)
    assert isinstance(told, Again)
    marks = [content for name, content in told.headers if name == "st_replayed"]
    assert marks == [b"quarantine-1-5"]


@pytest.mark.parametrize("time", [None, b"yesterday", b"2026-11-22T05:00:01"])
def test_without_a_time_of_its_own_it_has_that_of_quarantine(time: bytes | None) -> None:
    headers = [each for each in of_edge("not JSON") if each[0] != "ce_time"]
    if time is not None:
        headers.append(("ce_time", time))
    told = judge(STATUS, headers, "quarantine-1-5", APPENDED_US)
    assert isinstance(told, Again)
    times = [content for name, content in told.headers if name == "ce_time"]
    assert times == [b"2025-11-22T08:26:40.000000Z"]


@pytest.mark.parametrize(
    ("value", "headers", "why"),
    [
        (b"{", of_edge("not JSON"), Why.NOT_UNDERSTOOD),
        (None, of_edge("empty body"), Why.NOT_UNDERSTOOD),
        (b'{"v":1}', of_processor(topics.SENDS, "x", TYPE_SEND), Why.NOT_UNDERSTOOD),
        (SEND, of_processor(topics.SENDS, "x", "com.example.other"), Why.NOT_UNDERSTOOD),
        # The database could not hold its row: the loader would put it aside again.
        (
            INBOUND.replace(b"2026-11-22T05", b"2026-11-22T06").replace(b"m3", b"m\\u00003"),
            of_processor(topics.INBOUND, RowReason.INBOUND_OUT_OF_RANGE, TYPE_INBOUND_V01),
            Why.NOT_UNDERSTOOD,
        ),
        (STATUS, of_edge("stale"), Why.ON_PURPOSE),
        (STATUS, of_edge("undated"), Why.ON_PURPOSE),
        (INBOUND, of_processor(topics.INBOUND, RowReason.REFUSED, None), Why.ON_PURPOSE),
        (b"{}", of_processor(topics.LIFECYCLES, RowReason.NO_SUMMARY, None), Why.DERIVED),
        (b"{}", of_processor(topics.PARTS, "not a part", None), Why.DERIVED),
    ],
)
def test_what_stays(value: bytes | None, headers: Headers, why: Why) -> None:
    assert judge(value, headers, "quarantine-0-0", APPENDED_US) is why


def test_named_reasons_alone_are_put_through() -> None:
    stale, other = of_edge("stale"), of_edge("not JSON")
    assert isinstance(judge(STATUS, stale, "q-0-0", 0, ("stale",)), Again)
    assert judge(STATUS, other, "q-0-0", 0, ("stale",)) is Why.NOT_NAMED
