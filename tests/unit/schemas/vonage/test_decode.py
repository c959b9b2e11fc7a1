"""A record of an input topic, with its headers, to an event, a send or a reason."""

from __future__ import annotations

from msgspec.structs import replace

from schemas import topics
from schemas.codec import (
    TYPE_ERASE,
    TYPE_RECEIPT,
    TYPE_REVOKE,
    TYPE_SEND,
    TYPE_STATUS,
    cloud_event,
    encode,
)
from schemas.events import Erase, Event, Revoke, Send
from schemas.vonage.decode import SEND_LIMIT_BYTES, Unusable, decode
from schemas.vonage.reasons import Reason
from schemas.vonage.sms import FORM

STATUS = b'{"message_uuid":"id-1","status":"delivered"}'
SEND = Send(message_id="id-1", send_id="s1", api="sms", arrived_at_us=5)


def headers(ce_type: str, content_type: str | None, verified: str) -> list[tuple[str, bytes]]:
    return cloud_event(
        ce_type=ce_type,
        ce_id="x",
        source="//acct/webhooks",
        at_us=77,
        content_type=content_type,
        verified=verified,
    )


def test_time_and_account_come_from_the_headers() -> None:
    event = decode(topics.STATUSES, STATUS, headers(TYPE_STATUS, None, "jwt"), 5)
    assert isinstance(event, Event)
    assert (event.fact.arrived_at_us, event.fact.account) == (77, "acct")


def test_an_account_that_was_not_verified_does_not_count() -> None:
    event = decode(topics.STATUSES, STATUS, headers(TYPE_STATUS, None, "none"), 5)
    assert isinstance(event, Event)
    assert event.fact.account == ""


def test_what_came_after_a_refusal_of_ours_is_marked() -> None:
    status, receipt = headers(TYPE_STATUS, None, "jwt"), headers(TYPE_RECEIPT, FORM, "none")
    for topic, value, given in (
        (topics.STATUSES, STATUS, status),
        (topics.RECEIPTS, b"messageId=id-1&status=failed", receipt),
    ):
        for mark, expected in ((b"true", True), (b"false", False)):
            event = decode(topic, value, [*given, ("ce_afterrefusal", mark)], 5)
            assert isinstance(event, Event)
            assert event.fact.after_refusal is expected


def test_without_headers_the_append_time_stands_in() -> None:
    for odd in (
        [],
        [("ce_time", b"\xff")],
        [("ce_time", b"2020-01-01T00:00:00")],
        [("ce_time", b"1969-12-31T23:59:59Z")],  # no deadline may lie before 1970
    ):
        event = decode(topics.STATUSES, STATUS, odd, 5)
        assert isinstance(event, Event)
        assert event.fact.arrived_at_us == 5


def test_a_receipt_is_read_by_its_content_type() -> None:
    query = b"messageId=id-1&status=delivered"
    event = decode(topics.RECEIPTS, query, headers(TYPE_RECEIPT, FORM, "none"), 5)
    assert isinstance(event, Event)
    assert event.message_id == "id-1"
    assert decode(topics.RECEIPTS, query, [], 5) == Unusable(Reason.NOT_JSON)


def test_sends() -> None:
    assert decode(topics.SENDS, encode(SEND), headers(TYPE_SEND, None, "none"), 5) == SEND
    assert decode(topics.SENDS, encode(SEND), [], 5) == SEND
    other = [("ce_type", b"com.sendtrace.other.v1")]
    assert decode(topics.SENDS, encode(SEND), other, 5) == Unusable(Reason.SEND_KIND)
    for broken in (b"", b"{}", b"[" * 100_000, b"\xff"):
        assert decode(topics.SENDS, broken, [], 5) == Unusable(Reason.SEND_MALFORMED)


def test_a_revoke_and_an_erase_are_told_by_their_type() -> None:
    for told, ce_type in (
        (Revoke(message_id="id-1", arrived_at_us=7), TYPE_REVOKE),
        (Erase(message_id="id-1", arrived_at_us=7), TYPE_ERASE),
    ):
        assert decode(topics.SENDS, encode(told), headers(ce_type, None, "none"), 5) == told
        malformed = decode(topics.SENDS, b"{}", headers(ce_type, None, "none"), 5)
        assert malformed == Unusable(Reason.SEND_MALFORMED)


def test_an_arrival_that_no_deadline_can_follow_is_malformed() -> None:
    """The joiner's index holds times from 1970 on, in 64 bits: it would end the joiner for good."""
    for odd_us in (-1, 1 << 60):
        for ce_type, odd in (
            (TYPE_SEND, replace(SEND, arrived_at_us=odd_us)),
            (TYPE_REVOKE, Revoke(message_id="id-1", arrived_at_us=odd_us)),
            (TYPE_ERASE, Erase(message_id="id-1", arrived_at_us=odd_us)),
        ):
            found = decode(topics.SENDS, encode(odd), headers(ce_type, None, "none"), 5)
            assert found == Unusable(Reason.SEND_MALFORMED)
    negative_ttl = encode(replace(SEND, ttl_ms=-1))
    assert decode(topics.SENDS, negative_ttl, [], 5) == Unusable(Reason.SEND_MALFORMED)


def test_a_send_that_no_lifecycle_can_hold_is_malformed() -> None:
    """Kafka would refuse the lifecycle, and the joiner end at this record for good."""
    long = replace(SEND, recipient="4" * (SEND_LIMIT_BYTES - len(encode(SEND))))
    assert decode(topics.SENDS, encode(long), [], 5) == Unusable(Reason.SEND_MALFORMED)
    fits = replace(SEND, recipient="4" * (SEND_LIMIT_BYTES // 2))
    assert decode(topics.SENDS, encode(fits), [], 5) == fits


def test_another_topic_has_no_decoder() -> None:
    assert decode("lifecycles", b"{}", [], 5) == Unusable(Reason.TOPIC)
