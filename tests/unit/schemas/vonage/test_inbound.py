"""Inbound messages of the Messages API, in both versions, and SMS API (docs/vonage.md 1 to 3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from schemas.codec import TYPE_SMS_INBOUND, cloud_event
from schemas.events import Arrival, Inbound
from schemas.vonage.decode import Unusable, decode_inbound, inbound
from schemas.vonage.keywords import keyword_class
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sms import FORM

SEEDS = Path(__file__).parents[3] / "data" / "seeds"
ARRIVAL = Arrival(1_000, "acct")


def read(body: dict[str, Any], **options: Any) -> Inbound:
    return inbound(json.dumps(body).encode(), None, ARRIVAL, **options)


def sms(**changes: Any) -> Inbound:
    fields = {"messageId": "m", "msisdn": "447700900001", "to": "447700900000", "text": "hi"}
    fields.update({name.replace("_", "-"): value for name, value in changes.items()})
    return read({name: value for name, value in fields.items() if value is not None})


def v1(**changes: Any) -> Inbound:
    return read({"message_uuid": "u", "message_type": "text", "text": "hi", **changes})


def test_the_seeds_v1_inbound() -> None:
    body = (SEEDS / "messages_v1_inbound.json").read_bytes()
    assert inbound(body, "application/json", ARRIVAL) == Inbound(
        message_id="aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
        api="messages",
        version="v1",
        channel="sms",
        account="acct",
        sender="447700900001",
        recipient="447700900000",
        arrived_at_us=1_000,
        provider_at_us=1_738_584_865_000_000,
        provider_step_us=1_000_000,
        message_type="text",
        text_length=18,
        keyword_class="other",
        segments=2,
        network="12345",
        price_units=3_330_000,
        currency="EUR",
    )


def test_the_seeds_v01_inbound() -> None:
    body = (SEEDS / "messages_v01_inbound.json").read_bytes()
    assert inbound(body, "application/json", ARRIVAL) == Inbound(
        message_id="aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        api="messages",
        version="v0.1",
        channel="sms",
        account="acct",
        sender="447700900001",
        recipient="447700900000",
        arrived_at_us=1_000,
        provider_at_us=1_577_887_200_000_000,
        provider_step_us=1_000,
        message_type="text",
        text_length=18,
        keyword_class="other",
        segments=2,
        price_units=3_330_000,
        currency="EUR",
    )


def test_the_seeds_sms_inbound_with_every_field() -> None:
    fields = json.loads((SEEDS / "sms_inbound.json").read_bytes())
    expected = Inbound(
        message_id="aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        api="sms",
        channel="sms",
        account="acct",
        claimed_account="abcd1234",
        sender="447700900001",
        recipient="447700900000",
        arrived_at_us=1_000,
        provider_at_us=1_577_880_000_000_000,
        provider_step_us=1_000_000,
        message_type="text",
        encoding="text",
        text_length=11,
        keyword_class="other",
    )
    fields = {name: value for name, value in fields.items() if "concat" not in name}
    fields = {name: value for name, value in fields.items() if name not in ("data", "udh")}
    assert read(fields) == expected
    assert inbound(urlencode(fields).encode(), f"{FORM}; charset=UTF-8", ARRIVAL) == expected


@pytest.mark.parametrize(
    "message_type",
    ["text", "image", "audio", "video", "file", "vcard", "location", "sticker", "reply", "button",
     "order", "contacts", "reaction", "unsupported", "of tomorrow"],
)  # fmt: skip
@pytest.mark.parametrize(
    "channel", ["sms", "mms", "rcs", "whatsapp", "messenger", "viber_service", "email"]
)
def test_every_channel_and_type_of_v1(channel: str, message_type: str) -> None:
    found = v1(channel=channel, message_type=message_type, context={"message_uuid": "earlier"})
    assert (found.channel, found.message_type) == (channel, message_type)
    assert found.reply_to == "earlier"


def test_a_binary_message_has_lengths() -> None:
    found = sms(type="binary", data="00ff10", udh="050003CC0201", text=None)
    assert (found.message_type, found.encoding, found.text_length) == ("binary", "binary", None)
    assert (found.data_length, found.udh_length, found.keyword_class) == (3, 6, "none")
    assert sms(data="null", udh="").data_length is None


@pytest.mark.parametrize(
    ("total", "part"), [("3", "2"), (3, 2), ("null", None), ("", "x"), ("-1", [1])]
)
def test_parts_of_a_long_message(total: object, part: object) -> None:
    found = sms(concat="true", concat_ref="1", concat_total=total, concat_part=part)
    is_told = total in ("3", 3)
    assert (found.concat_ref, found.concat_total) == ("1", 3 if is_told else None)
    assert found.concat_part == (2 if is_told else None)


def test_a_form_is_decoded_once_and_null_is_a_text() -> None:
    raw = b"messageId=m&msisdn=447&type=unicode&keyword=null&text="
    found = inbound(raw + b"%25E3%20+%F0%9F%98%80", FORM, ARRIVAL, keep_text=True)
    assert (found.text, found.text_length, found.encoding) == ("%E3  \U0001f600", 6, "unicode")
    assert inbound(raw + b"null", FORM, ARRIVAL, keep_text=True).text == "null"


def test_text_is_kept_only_when_asked_for() -> None:
    assert sms(text="secret").text is None
    assert read({"message_uuid": "u", "text": "secret"}).text is None
    content = {"message": {"content": {"type": "text", "text": "secret"}}}
    assert read({"message_uuid": "u", **content}).text is None
    assert read({"message_uuid": "u", **content}, keep_text=True).text == "secret"


@pytest.mark.parametrize(
    ("keyword", "words", "expected"),
    [
        ("STOP", "x", "STOP"),
        ("stop", None, "STOP"),
        (None, " Stop. it", "STOP"),
        ("null", "Unsubscribe", "STOP"),
        ("HELP\nLOW", "x", "HELP"),
        (None, "info", "HELP"),
        ("HELLO", "STOP", "other"),
        ("", "", "none"),
        (None, None, "none"),
        (None, "null", "other"),
        (5, ["STOP"], "none"),
        (None, "STOPPING", "other"),
        (None, "a" * 10**6, "other"),
    ],
)
def test_what_a_keyword_asks_for(keyword: object, words: object, expected: str) -> None:
    assert keyword_class(keyword, words) == expected


@pytest.mark.parametrize("place", ["message", "content"])
def test_v01_has_its_keyword_in_either_place(place: str) -> None:
    told = {"keyword": "STOP", "num_messages": 2}
    content: dict[str, Any] = {"type": "text", "text": "Stop that"}
    message = (
        {"content": content, "sms": told}
        if place == "message"
        else {"content": {**content, "sms": told}}
    )
    found = read({"message_uuid": "u", "message": message})
    assert (found.keyword_class, found.segments) == ("STOP", 2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"message_uuid": "u"}, Reason.NO_STATUS),
        ({"message_uuid": "u", "status": "read"}, Reason.IS_NO_INBOUND),
        ({"messageId": "m", "status": "failed"}, Reason.IS_NO_INBOUND),
        ({"messageId": "m", "msisdn": "447"}, Reason.NO_STATUS),
        ({"messageId": "", "text": "x"}, Reason.NO_MESSAGE_ID),
        ({"message_uuid": ["u"], "text": "x"}, Reason.BAD_MESSAGE_ID),
        ({"to": {}, "from": {}, "message": {}}, Reason.NO_MESSAGE_ID),
    ],
)
def test_what_is_no_inbound_message_says_why(body: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(NotUnderstoodError) as caught:
        read(body)
    assert caught.value.reason is reason


def test_a_record_is_read_by_its_headers() -> None:
    headers = cloud_event(
        ce_type=TYPE_SMS_INBOUND, ce_id="x", source="//acct/webhooks", at_us=77,
        content_type=FORM, verified="sig",
    )  # fmt: skip
    found = decode_inbound(b"messageId=m&text=hi", headers, 5)
    assert isinstance(found, Inbound)
    assert (found.arrived_at_us, found.account) == (77, "acct")
    assert decode_inbound(b"messageId=m&text=hi", [], 5) == Unusable(Reason.NOT_JSON)
