"""SMS API: receipts in their three forms (docs/vonage.md 2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Arrival, Event, Fact
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sms import FORM, decode_receipt

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
        mended=True,
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


def test_scts_is_never_a_time() -> None:
    """It is the carrier's, in a zone that nobody tells (docs/rules.md 4)."""
    assert receipt(scts="2002201404") == receipt()
    assert receipt(scts="2002201404").provider_at_us is None


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
        (b"messageId=id-1&text=hi", FORM, Reason.IS_INBOUND),
        (b"messageId=id-1&text=", FORM, Reason.IS_INBOUND),
        (b"messageId=id-1&text=null", FORM, Reason.IS_INBOUND),
        (b"messageId=id-1&status=delivered&text=hi", FORM, Reason.IS_INBOUND),
        (b"messageId=id-1&type=binary&udh=00", FORM, Reason.IS_INBOUND),
        (b"messageId=id-1&type=text", FORM, Reason.IS_INBOUND),
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


@pytest.mark.parametrize("rest", [b"&text=", b"&text=null", b"&data=null&udh=", b"&type=text"])
def test_a_missing_text_beside_a_status_makes_no_message_of_a_receipt(rest: bytes) -> None:
    """In forms a missing value is the word null (docs/vonage.md 1)."""
    assert (
        decode_receipt(b"messageId=id-1&status=failed" + rest, FORM, ARRIVAL).fact.status
        == "failed"
    )
