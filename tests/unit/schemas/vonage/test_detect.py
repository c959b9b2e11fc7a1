"""Content decides what a webhook is, not its URL (FACTS section 1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics
from schemas.vonage.decode import Unusable, decode
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
    ("name", "reason"),
    [
        ("messages_v01_status.json", Reason.MESSAGES_V01_STATUS),
        ("messages_v01_inbound.json", Reason.MESSAGES_V01_INBOUND),
        ("messages_v1_inbound.json", Reason.MESSAGES_V1_INBOUND),
        ("sms_inbound.json", Reason.SMS_INBOUND),
    ],
)
def test_seeds_not_yet_understood_say_what_they_are(name: str, reason: Reason) -> None:
    assert post(seed(name)) == Quarantine(reason, seed(name), JSON)


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
    [b'{"message_uuid":"a","status":"b"', b'{"messageId":"a"', b',"text":1', b',"to":{}', b"}",
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
        event = decode(found.topic, found.value, stored, 1)
        # The edge skips what it does not need; a broken value there is found only here.
        if isinstance(event, Unusable):
            assert event.reason in (Reason.NOT_JSON, Reason.NUMBER_RANGE)
        else:
            assert event.message_id.encode() == found.key  # type: ignore[union-attr]
