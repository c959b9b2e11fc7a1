"""Content decides what a webhook is, not its URL (docs/vonage.md 1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics
from schemas.vonage.decode import Unusable, decode, decode_inbound
from schemas.vonage.detect import Detected, Quarantine, detect
from schemas.vonage.reasons import Reason
from schemas.vonage.sms import FORM

SEEDS = Path(__file__).parents[3] / "data" / "seeds"
JSON = "application/json"


def seed(name: str) -> bytes:
    return (SEEDS / name).read_bytes()


def post(body: bytes, content_type: str | None = JSON) -> Detected | Quarantine:
    return detect("POST", "/webhooks/any", b"", content_type, body)


def test_every_seed_goes_where_it_belongs() -> None:
    status = post(seed("messages_v1_status.json"))
    assert isinstance(status, Detected)
    assert status.topic == topics.STATUSES
    assert status.key == b"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
    for found, key in (
        (post(seed("receipt.json")), b"02000000E68951D8"),
        (post(seed("receipt_form.txt"), f"{FORM}; charset=UTF-8"), b"0A0000001234567B"),
        (detect("GET", "/webhooks", seed("receipt_query.txt"), None, b""), b"000000FFFB0356D2"),
    ):
        assert isinstance(found, Detected)
        assert (found.topic, found.key) == (topics.RECEIPTS, key)


@pytest.mark.parametrize(
    ("name", "topic", "key", "ce_type"),
    [
        ("messages_v1_status.json", topics.STATUSES, "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
         "com.vonage.messages.status.v1"),
        ("messages_v01_status.json", topics.STATUSES, "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
         "com.vonage.messages.status.v0_1"),
        ("messages_v1_inbound.json", topics.INBOUND, "447700900001",
         "com.vonage.messages.inbound.v1"),
        ("messages_v01_inbound.json", topics.INBOUND, "447700900001",
         "com.vonage.messages.inbound.v0_1"),
        ("sms_inbound.json", topics.INBOUND, "447700900001", "com.vonage.sms.inbound.v1"),
        ("receipt.json", topics.RECEIPTS, "02000000E68951D8", "com.vonage.sms.receipt.v1"),
    ],
)  # fmt: skip
def test_each_kind_has_its_topic_key_and_type(
    name: str, topic: str, key: str, ce_type: str
) -> None:
    expected = Detected(topic, key.encode(), ce_type, seed(name), JSON)
    assert post(seed(name)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"message_uuid":"u","message_type":"text","text":"hi"}',
        b'{"message_uuid":"u","to":{},"from":{"type":"sms"}}',
        b'{"messageId":"u","type":"text","text":"hi","msisdn":"null"}',
    ],
)
def test_an_inbound_message_without_a_sender_has_its_id_for_a_key(body: bytes) -> None:
    found = post(body)
    assert isinstance(found, Detected)
    assert (found.topic, found.key) == (topics.INBOUND, b"u")


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"<a/>", "text/xml", Reason.CONTENT_TYPE),
        (b"<a/>", None, Reason.NOT_JSON),
        (b"{", "application/problem+json", Reason.NOT_JSON),
        (b"{}", None, Reason.NO_MESSAGE_ID),
        (b"hello", "=?;;", Reason.CONTENT_TYPE),
        (b"%%%&&&===", FORM, Reason.NO_MESSAGE_ID),
    ],
)
def test_everything_else_has_its_reason(
    body: bytes, content_type: str | None, reason: Reason
) -> None:
    assert post(body, content_type) == Quarantine(reason, body, content_type)


def test_a_request_without_a_body_speaks_by_its_query() -> None:
    query = seed("receipt_query.txt")
    for method, content_type in (("GET", None), ("GET", JSON), ("POST", JSON)):
        found = detect(method, "/webhooks", query, content_type, b"")
        assert isinstance(found, Detected)
        assert (found.value, found.content_type) == (query, FORM)
    assert detect("POST", "/webhooks", b"", JSON, b"") == Quarantine(Reason.EMPTY, b"", FORM)


PIECES = st.sampled_from(
    [b'{"message_uuid":"a","status":"b"', b'{"messageId":"a"', b',"text":1', b',"to":{}',
     b',"from":{"id":"7"}', b"}",
     b"messageId=a&status=b", b"&text=", b"%FF", b"\xff", b'"\\ud800"', b"null", b"9" * 400, b"["]
)  # fmt: skip


@given(
    st.lists(PIECES | st.binary(max_size=8), max_size=8).map(b"".join),
    st.sampled_from([None, JSON, FORM, "x"]),
)
def test_any_bytes_get_an_answer_and_the_decoder_agrees(body: bytes, content_type: str) -> None:
    """What the edge understands, processors can read under the same id; and nothing raises."""
    found = post(body, content_type)
    for topic in (topics.STATUSES, topics.RECEIPTS, topics.SENDS):
        headers = [] if found.content_type is None else [("content-type", FORM.encode())]
        decode(topic, body, headers, 1)
    if isinstance(found, Detected):
        stored = [] if content_type is None else [("content-type", content_type.encode())]
        if found.topic == topics.INBOUND:
            inbound = decode_inbound(found.value, stored, 1)
            assert (
                inbound.reason in (Reason.NOT_JSON, Reason.NUMBER_RANGE)
                if isinstance(inbound, Unusable)
                else found.key.decode() == (inbound.sender or inbound.message_id)
            )
            return
        event = decode(found.topic, found.value, stored, 1)
        # The edge skips what it does not need; a broken value there is found only here.
        if isinstance(event, Unusable):
            assert event.reason in (Reason.NOT_JSON, Reason.NUMBER_RANGE)
        else:
            assert event.message_id.encode() == found.key  # type: ignore[union-attr]
