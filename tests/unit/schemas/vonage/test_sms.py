"""SMS API: receipts in their three forms, and answers to sends (FACTS sections 2 and 8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Arrival, Event, Fact
from schemas.vonage.exchange import Exchange
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sms import FORM, decode_receipt, sends

SEEDS = Path(__file__).parents[3] / "data" / "seeds"
ARRIVAL = Arrival(1_000)


def receipt(**changes: Any) -> Fact:
    fields = {"messageId": "id-1", "status": "delivered"}
    fields.update({name.replace("_", "-"): value for name, value in changes.items()})
    return decode_receipt(json.dumps(fields).encode(), "application/json", ARRIVAL).fact


def expected(message_id: str, **fields: Any) -> Event:
    return Event(
        message_id,
        Fact(
            kind="receipt",
            status="delivered",
            arrived_at_us=1_000,
            provider_at_us=1_577_880_000_000_000,
            provider_step_us=1_000_000,
            api="sms_or_alerts",
            channel="sms",
            **fields,
        ),
    )


def test_the_seeds_query_with_backslashes_in_its_time() -> None:
    raw = (SEEDS / "receipt_query.txt").read_bytes()
    assert decode_receipt(raw, FORM, ARRIVAL) == expected(
        "000000FFFB0356D2",
        sender="12150000025",
        recipient="66837000111",
        network="52099",
        price_units=2_000_000,
    )


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=UTF-8", f" {FORM.upper()} "])
def test_the_seeds_receipt_as_a_form(content_type: str) -> None:
    raw = (SEEDS / "receipt_form.txt").read_bytes()
    assert decode_receipt(raw, content_type, ARRIVAL) == expected(
        "0A0000001234567B",
        sender="AcmeInc",
        recipient="447700900000",
        network="12345",
        price_units=3_330_000,
        claimed_account="abcd1234",
    )


@pytest.mark.parametrize("content_type", ["application/json", None, FORM, "text/plain"])
def test_the_seeds_receipt_as_json_whatever_it_is_called(content_type: str | None) -> None:
    raw = (SEEDS / "receipt.json").read_bytes()
    assert decode_receipt(raw, content_type, ARRIVAL) == expected(
        "02000000E68951D8",
        sender="447700900001",
        recipient="447700900000",
        network="52099",
        price_units=2_000_000,
    )


@pytest.mark.parametrize(
    ("err_code", "code"),
    [("0", ""), (0, ""), ("", ""), ("null", ""), (None, ""), ("7", "7"), (7, "7"), ("99x", "99x")],
)
def test_codes_that_mean_none_are_alike(err_code: object, code: str) -> None:
    assert receipt(err_code=err_code).code == code


@pytest.mark.parametrize("nothing", ["", "null", None])
def test_null_empty_and_absent_are_alike(nothing: str | None) -> None:
    with_it = receipt(network_code=nothing, client_ref=nothing, price=nothing)
    assert with_it == receipt()


def test_a_form_is_percent_decoded_once() -> None:
    raw = b"messageId=id-1&status=Delivered&client-ref=a%2Bb+c%2526&price=0%2C04870000&to=%FF"
    found = decode_receipt(raw, FORM, ARRIVAL).fact
    assert found.client_ref == "a+b c%26"
    assert found.price_units == 4_870_000
    assert found.status == "delivered"
    assert found.sender == "\ufffd"


@pytest.mark.parametrize(
    ("raw", "content_type", "reason"),
    [
        (b"messageId=&status=delivered", FORM, Reason.NO_MESSAGE_ID),
        (b"status=delivered", FORM, Reason.NO_MESSAGE_ID),
        (b"messageId=%FF&status=delivered", FORM, Reason.BAD_MESSAGE_ID),
        (b"messageId=a%00&status=delivered", FORM, Reason.BAD_MESSAGE_ID),
        (b"messageId=id-1", FORM, Reason.NO_STATUS),
        (b"messageId=id-1&status=null", FORM, Reason.NO_STATUS),
        (b"messageId=id-1&text=hi", FORM, Reason.SMS_INBOUND),
        (b"messageId=id-1&status=delivered&text=", FORM, Reason.SMS_INBOUND),
        (b"messageId=id-1&type=binary&udh=00", FORM, Reason.SMS_INBOUND),
        (b"messageId=id-1&status=delivered" + b"&a=b" * 300, FORM, Reason.TOO_MANY_FIELDS),
        (b"messageId=id-1&status=delivered", "application/json", Reason.NOT_JSON),
        (b"[1]", None, Reason.NOT_AN_OBJECT),
        (b"", None, Reason.EMPTY),
    ],
)
def test_what_is_no_receipt_says_why(raw: bytes, content_type: str | None, reason: Reason) -> None:
    with pytest.raises(NotUnderstoodError) as caught:
        decode_receipt(raw, content_type, ARRIVAL)
    assert caught.value.reason is reason


def exchange(answer: object, http_status: int | None = 200, **request: Any) -> Exchange:
    return Exchange(
        send_id="s1",
        arrived_at_us=5,
        request={"to": "447700900000", "from": "Acme", "text": "secret words", **request},
        answer_status=http_status,
        answer=answer,
    )


def test_parts_of_a_long_text_share_a_send_id_and_a_throttled_one_gets_an_id_of_ours() -> None:
    answer = {
        "message-count": "2",
        "messages": [
            {
                "to": "447700900000",
                "message-id": "m1",
                "status": "0",
                "remaining-balance": "1.5",
                "message-price": "0.0333",
                "network": "12345",
            },
            {"status": "1", "error-text": "Throttled"},
        ],
    }
    first, second = sends(exchange(answer, **{"client-ref": "ref", "ttl": "60000"}))
    assert (first.message_id, first.send_id, first.part, first.parts) == ("m1", "s1", 1, 2)
    assert (first.price_units, first.balance_units) == (3_330_000, 150_000_000)
    assert (first.network, first.client_ref, first.ttl_ms) == ("12345", "ref", 60_000)
    assert (first.answer_status, first.refused) == ("0", False)
    assert (second.message_id, second.send_id, second.part) == ("s1.2", "s1", 2)
    assert (second.recipient, second.answer_status) == ("447700900000", "1")
    assert (second.refused, second.error_text) == (True, "Throttled")


def test_several_recipients_are_several_sends() -> None:
    answer = {
        "messages": [
            {"to": "447700900000", "message-id": "m1", "status": "0"},
            {"to": "447700900009", "message-id": "m2", "status": 0},
        ]
    }
    found = [(send.message_id, send.send_id, send.parts) for send in sends(exchange(answer))]
    assert found == [("m1", "s1", 1), ("m2", "s1-2", 1)]


@pytest.mark.parametrize(
    ("answer", "http_status", "answer_status", "refused"),
    [
        (None, None, None, False),
        (None, 200, None, False),
        ({"messages": []}, 200, None, False),
        ("Error", 429, "http-429", True),
    ],
)
def test_without_a_readable_answer_there_is_one_send(
    answer: object, http_status: int | None, answer_status: str | None, refused: bool
) -> None:
    [send] = sends(exchange(answer, http_status))
    assert (send.message_id, send.answer_status, send.refused) == ("s1.1", answer_status, refused)


@pytest.mark.parametrize(("asked", "is_expected"), [(False, False), ("0", False), (True, True)])
def test_whether_a_receipt_was_asked_for(asked: object, is_expected: bool) -> None:
    [send] = sends(exchange(None, None, **{"status-report-req": asked}))
    assert send.receipt_expected is is_expected
