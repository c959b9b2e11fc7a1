"""Messages API v1: statuses, and sends with their answers (FACTS sections 3 and 9)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Arrival, Event, Fact, Send
from schemas.vonage.exchange import Exchange
from schemas.vonage.messages import decode_status, sends
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
        ),
    )


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
        ({}, None),
        ([], None),
    ],
)
def test_segments_by_all_their_names(sms: object, segments: int | None) -> None:
    assert fact(sms=sms).segments == segments


@pytest.mark.parametrize(
    ("workflow", "workflow_id"),
    [({"workflow_id": "w"}, "w"), ({"id": "w"}, "w"), ({}, None), (None, None)],
)
def test_workflow_by_all_its_names(workflow: object, workflow_id: str | None) -> None:
    assert fact(workflow=workflow).workflow_id == workflow_id


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
    assert found.channel == "c" * 256
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
    ],
)
def test_what_is_no_status_says_why(body: bytes, reason: Reason) -> None:
    with pytest.raises(NotUnderstoodError) as caught:
        decode_status(body, ARRIVAL)
    assert caught.value.reason is reason


REQUEST = {
    "to": "447700900000",
    "from": "Acme",
    "channel": "sms",
    "client_ref": "ref",
    "ttl": 90,
    "text": "secret words",
}


def exchange(status_code: int | None, answer: object) -> Exchange:
    return Exchange(
        send_id="s1",
        arrived_at_us=5,
        request=REQUEST,
        answer_status=status_code,
        answer=answer,
        account="acct",
    )


def test_an_accepted_send() -> None:
    assert sends(exchange(202, {"message_uuid": "u1"})) == [
        Send(
            message_id="u1",
            send_id="s1",
            api="messages",
            arrived_at_us=5,
            account="acct",
            channel="sms",
            sender="Acme",
            recipient="447700900000",
            client_ref="ref",
            answer_status="202",
            ttl_ms=90_000,
        )
    ]


def test_a_refused_send_has_an_id_of_ours_and_the_problem() -> None:
    problem = {"type": "https://x/messages#1150", "title": "Invalid params", "detail": "to"}
    [send] = sends(exchange(422, problem))
    assert (send.message_id, send.answer_status, send.refused) == ("s1.1", "422", True)
    assert send.error_text == "#1150 Invalid params: to"


@pytest.mark.parametrize(("status_code", "answer"), [(None, None), (202, "no JSON"), (202, {})])
def test_a_send_without_a_readable_answer_is_not_refused(
    status_code: int | None, answer: object
) -> None:
    [send] = sends(exchange(status_code, answer))
    assert (send.message_id, send.refused) == ("s1.1", False)
