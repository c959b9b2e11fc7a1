"""Messages API: statuses of both versions (docs/vonage.md 3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Arrival, Event, Fact, Segment
from schemas.vonage.messages import decode_status
from schemas.vonage.reasons import NotUnderstoodError, Reason

SEEDS = Path(__file__).parents[3] / "data" / "seeds"
ARRIVAL = Arrival(1_000)


def status(**fields: Any) -> bytes:
    return json.dumps({"message_uuid": "id-1", "status": "delivered", **fields}).encode()


def fact(**fields: Any) -> Fact:
    return decode_status(status(**fields), ARRIVAL).fact


def test_the_seeds_status_with_every_field() -> None:
    body = (SEEDS / "messages_v1_status.json").read_bytes()
    assert decode_status(body, Arrival(1_000, "acct")) == Event(
        "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab",
        Fact(
            kind="status",
            status="submitted",
            code="1000",
            account="acct",
            arrived_at_us=1_000,
            provider_at_us=1_738_584_865_000_000,
            provider_step_us=1_000_000,
            api="messages",
            channel="sms",
            sender="447700900001",
            recipient="447700900000",
            network="12345",
            client_ref="abc123",
            price_units=3_330_000,
            currency="EUR",
            segments=2,
            error_title=(
                "Throttled - You have exceeded the submission capacity allowed on this account. "
                "Please wait and retry"
            ),
            error_instance="bf0ca0bf927b3b52e3cb03217e1a1ddf",
            version="v1",
        ),
    )


def test_the_seeds_v01_status_with_every_field() -> None:
    body = (SEEDS / "messages_v01_status.json").read_bytes()
    assert decode_status(body, ARRIVAL) == Event(
        "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        Fact(
            kind="status",
            status="delivered",
            code="1300",
            arrived_at_us=1_000,
            provider_at_us=1_577_887_200_000_000,
            provider_step_us=1_000,
            api="messages",
            channel="sms",
            sender="447700900000",
            recipient="447700900000",
            client_ref="my-personal-reference",
            price_units=3_330_000,
            currency="EUR",
            error_title="Not part of the provider network",
            version="v0.1",
        ),
    )


@pytest.mark.parametrize(
    ("party", "channel", "address"),
    [
        ({"type": "sms", "number": "4477", "id": "9"}, "sms", "4477"),
        ({"type": "messenger", "number": "4477", "id": "9"}, "messenger", "9"),
        ({"type": "messenger", "user_ref": "8"}, "messenger", "8"),
        ({"type": "viber_service_msg", "id": "9"}, "viber_service", "9"),
        ({"type": "whatsapp", "number": 447700900000}, "whatsapp", "447700900000"),
        ({"type": "mms", "number": "\t4477"}, "mms", "4477"),
        ({"number": None, "id": ""}, None, None),
        ({}, None, None),
    ],
)
def test_the_objects_of_v01(
    party: dict[str, Any], channel: str | None, address: str | None
) -> None:
    found = fact(**{"to": party, "from": {}})
    assert (found.channel, found.recipient, found.version) == (channel, address, "v0.1")


@pytest.mark.parametrize(
    ("links", "workflow_id"),
    [
        ({"dispatch": {"dispatch_uuid": "d", "href": "x"}}, "d"),
        ({"workflow": {"workflow_uuid": "w"}}, "w"),
        ({"dispatch": []}, None),
        ("x", None),
    ],
)
def test_dispatch_and_workflow_links_of_v01(links: object, workflow_id: str | None) -> None:
    assert fact(_links=links, to={}).workflow_id == workflow_id


def test_whatsapp_says_what_it_charges() -> None:
    found = fact(
        whatsapp={
            "pricing": {"type": "regular", "pricing_model": "PMP", "category": "utility"},
            "conversation": {"id": "1", "origin": {"type": "user_initiated"}},
        }
    )
    told = (found.pricing_type, found.pricing_model, found.pricing_category)
    assert (*told, found.conversation_origin) == ("regular", "PMP", "utility", "user_initiated")
    for odd in (None, "x", [], {"pricing": "x"}, {"conversation": {"origin": 1}}):
        assert fact(whatsapp=odd).pricing_model is None


def test_segments_have_status_and_time_each() -> None:
    segments = [
        {"timestamp": "2025-02-03T12:14:25Z", "status": "Delivered"},
        {"timestamp": "2025-02-03T12:14:26.500Z"},
        "odd",
    ]
    assert fact(sms={"total_count": "3", "segments": segments}).segments_detail == (
        Segment("delivered", 1_738_584_865_000_000, 1_000_000),
        Segment("", 1_738_584_866_500_000, 1_000),
        Segment(),
    )
    assert fact(sms={"segments": segments * 50}).segments_detail is not None
    assert len(fact(sms={"segments": segments * 50}).segments_detail or ()) == 20
    assert fact(sms={"segments": []}).segments_detail is None


def test_other_names_of_a_reference_and_of_errors() -> None:
    assert fact(**{"client-ref": "a", "to": {}}).client_ref == "a"
    assert fact(errors=[{"code": 1300, "reason": "r"}]).code == "1300"
    assert fact(errors=["odd"]).code == ""


@pytest.mark.parametrize(
    ("error", "code", "title"),
    [
        ({"title": "1000", "detail": "d"}, "1000", "d"),
        ({"title": 1000, "detail": "d"}, "1000", "d"),
        ({"title": "Throttled", "type": "https://x/messages#1000"}, "1000", "Throttled"),
        ({"title": "Rejected", "type": "https://x/messages#unathorized"}, "", "Rejected"),
        ({"code": 1300, "reason": "r"}, "1300", "r"),
        ({"error": {"title": "1180", "detail": "d"}}, "1180", "d"),
        ({"title": "0"}, "", None),
        ({"title": 0}, "", None),
        ({"title": None, "type": None}, "", None),
        ({"title": "9" * 5000}, "", "9" * 256),
        ({}, "", None),
        (None, "", None),
        ("text", "", None),
    ],
)
def test_the_code_of_an_error(error: object, code: str, title: str | None) -> None:
    found = fact(error=error)
    assert (found.code, found.error_title) == (code, title)


@pytest.mark.parametrize(
    ("sms", "segments"),
    [
        ({"count_total": "2"}, 2),
        ({"count_total": 2}, 2),
        ({"total_count": "3"}, 3),
        ({"segments": [{"status": "delivered"}] * 4}, 4),
        ({"count_total": "many"}, None),
        ({"count_total": "999999999999"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_segments_by_all_their_names(sms: object, segments: int | None) -> None:
    assert fact(sms=sms).segments == segments


@pytest.mark.parametrize(
    ("workflow", "told"),
    [
        ({"workflow_id": "w", "items_number": "1", "items_total": "2"}, ("w", 1, 2)),
        ({"id": "w", "item_number": 1, "total_items": 2}, ("w", 1, 2)),
        ({"id": "w", "items_number": "many", "items_total": -1}, ("w", None, None)),
        ({}, (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_workflow_by_all_its_names(workflow: object, told: tuple[object, ...]) -> None:
    found = fact(workflow=workflow)
    assert (found.workflow_id, found.workflow_item, found.workflow_items) == told


@pytest.mark.parametrize(
    ("timestamp", "at_us", "step_us"),
    [
        ("2020-01-01T12:00:00Z", 1_577_880_000_000_000, 1_000_000),
        ("2020-01-01T12:00:00.000Z", 1_577_880_000_000_000, 1_000),
        ("0001-01-01T00:00:00+0900", None, None),
        ("yesterday", None, None),
        (7, None, None),
    ],
)
def test_provider_time(timestamp: object, at_us: int | None, step_us: int | None) -> None:
    found = fact(timestamp=timestamp)
    assert (found.provider_at_us, found.provider_step_us) == (at_us, step_us)


def test_text_is_cut_and_unknown_keys_are_ignored() -> None:
    found = fact(client_ref="r" * 300, channel="c" * 300, unheard_of={"deep": [1]}, to="a\0b")
    assert found.client_ref == "r" * 100
    assert found.channel == "c" * 64
    assert found.recipient == "ab"


def test_status_and_null_texts_are_normalised() -> None:
    found = fact(status=" DELIVERED ", to="null", client_ref="", usage={"price": 0.0333})
    assert (found.status, found.recipient, found.client_ref) == ("delivered", None, None)
    assert found.price_units == 3_330_000


def test_a_raw_tab_inside_a_string_is_read() -> None:
    body = b'{"message_uuid":"id-1","status":"delivered","from":"\t447700900000"}'
    assert decode_status(body, ARRIVAL).fact.sender == "447700900000"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"  ", Reason.EMPTY),
        (b"{", Reason.NOT_JSON),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b'{"a":' * 100_000, Reason.NOT_JSON),
        (b'{"message_uuid":"a\\ud800","status":"b"}', Reason.NOT_JSON),
        (b"[]", Reason.NOT_AN_OBJECT),
        (status(usage={"price": 0}).replace(b"0}", b"1e999}"), Reason.NUMBER_RANGE),
        (b'{"status":"delivered"}', Reason.NO_MESSAGE_ID),
        (status(message_uuid=""), Reason.NO_MESSAGE_ID),
        (status(message_uuid="null"), Reason.NO_MESSAGE_ID),
        (status(message_uuid="x" * 300), Reason.BAD_MESSAGE_ID),
        (status(message_uuid="a\0"), Reason.BAD_MESSAGE_ID),
        (status(message_uuid={"a": 1}), Reason.BAD_MESSAGE_ID),
        (status(message_uuid=True), Reason.BAD_MESSAGE_ID),
        (status(status=None), Reason.NO_STATUS),
        (status(status=5), Reason.NO_STATUS),
        (status(status=""), Reason.NO_STATUS),
        (status(status=" \0 "), Reason.NO_STATUS),
        (status(status=None, message_type="text"), Reason.IS_INBOUND),
        (status(status=None, message={}), Reason.IS_INBOUND),
        (status(status=None, to={}), Reason.IS_INBOUND),
    ],
)
def test_what_is_no_status_says_why(body: bytes, reason: Reason) -> None:
    with pytest.raises(NotUnderstoodError) as caught:
        decode_status(body, ARRIVAL)
    assert caught.value.reason is reason
