"""Messages API: what a send asks for and what the answer says (docs/vonage.md 9)."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.codec import encode
from schemas.events import Send
from schemas.vonage.exchange import Exchange, Request
from schemas.vonage.messages_send import request, sends

REQUEST = {
    "to": "447700900000",
    "from": "Acme",
    "channel": "sms",
    "message_type": "text",
    "client_ref": "ref",
    "ttl": 90,
    "text": "secret words",
}


def exchange(status_code: int | None, answer: object, **changes: Any) -> Exchange:
    return Exchange(
        send_id="s1",
        arrived_at_us=5,
        request={**REQUEST, **changes},
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
            version="v1",
            arrived_at_us=5,
            account="acct",
            channel="sms",
            sender="Acme",
            recipient="447700900000",
            client_ref="ref",
            message_type="text",
            answer="accepted",
            answer_status="202",
            http_status=202,
            ttl_ms=90_000,
        )
    ]


def test_failover_has_the_id_of_its_first_item_and_of_its_workflow() -> None:
    body = {"message_uuid": "u1", "workflow_id": "w1"}
    [send] = sends(exchange(202, body, failover=[{"channel": "sms"}, {}]))
    assert (send.message_id, send.workflow_id, send.failover_items) == ("u1", "w1", 2)


def test_everything_that_a_request_may_ask_for() -> None:
    asked = {
        "webhook_url": "https://user:secret@hooks.example.com:8443/status?token=secret",
        "sms": {"encoding_type": "unicode", "entity_id": "e", "content_id": "c", "pool_id": "p"},
        "template": {"name": "n", "parameters": ["secret"]},
    }
    assert request({**REQUEST, **asked}) == Request(
        api="messages",
        version="v1",
        channel="sms",
        sender="Acme",
        recipient="447700900000",
        client_ref="ref",
        message_type="text",
        encoding="unicode",
        ttl_ms=90_000,
        callback_host="hooks.example.com",
        pool_id="p",
        entity_id="e",
        content_id="c",
        template="n",
    )


def test_a_v01_request() -> None:
    body = {
        "to": {"type": "viber_service_msg", "number": "447700900000"},
        "from": {"type": "viber_service_msg", "id": "654321"},
        "client_ref": "r",
        "message": {
            "content": {"type": "template", "template": {"name": "n"}},
            "viber_service_msg": {"ttl": "600"},
        },
    }
    assert request(body) == Request(
        api="messages",
        version="v0.1",
        channel="viber_service",
        sender="654321",
        recipient="447700900000",
        client_ref="r",
        message_type="template",
        ttl_ms=600_000,
        template="n",
    )


@pytest.mark.parametrize(
    "url", [None, 5, "", "://", "http://[::1", "nothing", "https://" + "a" * 9**4]
)
def test_an_odd_callback_is_no_error(url: object) -> None:
    host = request({**REQUEST, "webhook_url": url}).callback_host
    assert host is None or len(host) <= 64


def test_neither_text_nor_credentials_nor_template_parameters_are_kept() -> None:
    secrets = {
        "text": "secret", "api_key": "secret", "api_secret": "secret", "sig": "secret",
        "image": {"url": "secret"}, "template": {"name": "n", "parameters": ["secret"]},
        "webhook_url": "https://secret@h/secret?secret#secret",
    }  # fmt: skip
    [send] = sends(exchange(202, {"message_uuid": "u", "text": "secret"}, **secrets))
    assert b"secret" not in encode(send)


def test_a_refused_send_has_an_id_of_ours_and_the_problem() -> None:
    problem = {"type": "https://x/messages#1150", "title": "Invalid params", "detail": "to",
               "instance": "i"}  # fmt: skip
    [send] = sends(exchange(422, problem))
    assert (send.message_id, send.answer_status, send.refused) == ("s1.1", "422", True)
    assert (send.error_code, send.error_instance) == ("1150", "i")
    assert send.error_text == "#1150 Invalid params: to"


@pytest.mark.parametrize(
    ("status_code", "answer", "kind"),
    [
        (None, None, "unanswered"),
        (202, "no JSON", "unreadable"),
        (202, {}, "unreadable"),
        (202, {"message_uuid": ""}, "unreadable"),
        (202, {"message_uuid": {"type": "https://x#Bad", "title": "Bad"}}, "refused"),
        (401, {"type": "https://x/#unathorized", "title": "No"}, "refused"),
        (429, {"type": "https://x/messages#1000", "title": "Rate Limit Hit"}, "throttled"),
        (429, "Error", "throttled"),
        (500, {}, "refused"),
        (502, "<html>", "unanswered"),
        (504, "", "unanswered"),
        (422, {"message_uuid": "u1"}, "refused"),
    ],
)
def test_what_kind_an_answer_is(status_code: int | None, answer: object, kind: str) -> None:
    [send] = sends(exchange(status_code, answer))
    assert (send.message_id, send.answer) == ("s1.1", kind)
    assert send.refused is (kind in ("refused", "throttled"))
