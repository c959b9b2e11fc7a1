"""The four APIs through POST /sends: requests and answers in every form they have."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from ingest.calls import Malformed, parse
from schemas.codec import decode_send
from schemas.events import Send

from fakes.edge import Edge

XML = (
    "<?xml version='1.0' encoding='UTF-8' ?><mt-submission-response><messages count='2'>"
    "<message><to>447700900000</to><messageId>m1</messageId><status>0</status>"
    "<remainingBalance>7.5</remainingBalance><messagePrice>0.0333</messagePrice>"
    "<network>23410</network></message>"
    "<message><status>1</status><errorText>Throttled</errorText></message>"
    "</messages></mt-submission-response>"
)
MESSAGES_JSON = {
    "messages": [
        {"to": "447700900000", "message-id": "m1", "status": "0", "message-price": "0.0333"},
        {"to": "447700900000", "message-id": "m2", "status": "0"},
    ]
}


def sends(api: str, request: Any, status: int | None = None, body: Any = None) -> list[Send]:
    call: dict[str, Any] = {"api": api, "request": request, "send_id": "s", "answer": None}
    if status is not None:
        call["answer"] = {"status": status, "body": body}
    return parse(json.dumps(call).encode(), 7)


def test_messages_v1_with_failover() -> None:
    request = {"to": "447700900000", "from": "Acme", "channel": "rcs", "failover": [{}, {}]}
    body = {"message_uuid": "u1", "workflow_id": "w1"}
    [send] = sends("messages", request, 202, body)
    assert (send.message_id, send.workflow_id, send.failover_items) == ("u1", "w1", 2)
    assert (send.version, send.channel, send.answer) == ("v1", "rcs", "accepted")
    [as_text] = sends("messages", json.dumps(request), 202, json.dumps(body))
    assert as_text == send


def test_messages_v0_1() -> None:
    request = {
        "from": {"type": "sms", "number": "447700900001"},
        "to": {"type": "sms", "number": "447700900000"},
        "message": {"content": {"type": "text", "text": "secret words"}},
    }
    [send] = sends("messages", request, 202, {"message_uuid": "u1"})
    assert (send.version, send.recipient, send.message_id) == ("v0.1", "447700900000", "u1")


@pytest.mark.parametrize(
    ("status", "body", "answer", "code"),
    [
        (422, {"type": "https://x/api-errors/messages#1150", "title": "t"}, "refused", "1150"),
        (429, "Error", "throttled", None),
        (401, "", "refused", None),
        (504, None, "unanswered", None),
        (None, None, "unanswered", None),
    ],
)
def test_what_has_no_id_gets_one_of_ours(
    status: int | None, body: Any, answer: str, code: str | None
) -> None:
    [send] = sends("messages", {"to": "447700900000"}, status, body)
    assert (send.message_id, send.answer, send.error_code) == ("s.1", answer, code)


FORM = "from=Acme&to=447700900000&text=secret+words&api_key=abcd1234&api_secret=s3cr3t&ttl=20000"


@pytest.mark.parametrize(
    "request_", [FORM, "?" + FORM, json.dumps(dict(p.split("=") for p in FORM.split("&")))]
)
def test_an_sms_request_as_form_query_or_json(request_: str) -> None:
    first, second = sends("sms", request_, 200, MESSAGES_JSON)
    assert (first.message_id, second.message_id) == ("m1", "m2")
    assert (first.part, second.part, first.parts) == (1, 2, 2)
    assert (first.recipient, first.account, first.ttl_ms) == ("447700900000", "abcd1234", 20000)
    assert first.sender == "Acme"


def test_an_answer_in_xml() -> None:
    first, second = sends("sms", FORM, 200, XML)
    assert (first.message_id, first.price_units, first.refused) == ("m1", 3_330_000, False)
    assert (second.message_id, second.refused, second.error_text) == ("s.2", True, "Throttled")


@pytest.mark.parametrize(("asked", "expected"), [("", False), ("&status-report-req=1", True)])
def test_an_alert_has_a_receipt_only_if_it_asks(asked: str, expected: bool) -> None:
    request = "api_key=abcd1234&to=447700900000&template=2&name=secret" + asked
    for body in (MESSAGES_JSON, XML):
        first, _ = sends("alerts", request, 200, body)
        assert (first.api, first.receipt_expected, first.template) == ("alerts", expected, "2")


def test_two_recipients_are_two_sends() -> None:
    body = {"messages": [{"to": "1", "message-id": "a", "status": "0"},
                         {"to": "2", "message-id": "b", "status": "0"}]}  # fmt: skip
    first, second = sends("sms", FORM, 200, body)
    assert (first.send_id, second.send_id) == ("s", "s-2")


@pytest.mark.parametrize("body", ["", "<xml", "Error", [], 7, None, {"messages": "x"}, "\ud800"])
def test_no_answer_breaks_it(body: Any) -> None:
    for api in ("messages", "sms", "alerts"):
        with suppress(Malformed):
            assert sends(api, {}, 200, body)


def test_host_and_application_are_kept() -> None:
    call = {"api": "messages", "request": {}, "host": "api.nexmo.com", "application": "app"}
    [send] = parse(json.dumps(call).encode(), 7)
    assert (send.host, send.application) == ("api.nexmo.com", "app")


async def test_neither_text_nor_credentials_of_any_form_are_stored(edge: Edge) -> None:
    calls = [
        {"api": api, "request": request, "answer": {"status": 200, "body": body}}
        for api in ("messages", "sms", "alerts")
        for request in (FORM, json.dumps(dict(p.split("=") for p in FORM.split("&"))))
        for body in (XML, MESSAGES_JSON, None)
    ]
    async with edge.session.post(f"{edge.internal}/sends", json=calls) as response:
        assert response.status == 200
    stored = edge.log.records("sendtrace.sends")
    assert len({decode_send(e.value or b"").send_id for e in stored}) == len(calls)
    shown = repr([(e.key, e.value, e.headers) for e in stored])
    assert "secret" not in shown
    assert "s3cr3t" not in shown


async def test_with_a_token_everybody_must_bring_it(edge: Edge) -> None:
    edge.given.sends_token = b"the token"
    url, call = f"{edge.internal}/sends", {"api": "messages", "request": {}}
    for authorization in ("", "Bearer the toke", "Bearer \u00fc", "Basic the token", "Bearer"):
        headers = {"Authorization": authorization}
        async with edge.session.post(url, json=call, headers=headers) as response:
            assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert edge.stored() == 0
    headers = {"Authorization": "Bearer the token"}
    async with edge.session.post(url, json=call, headers=headers) as response:
        assert response.status == 200
    assert edge.count("sends_unauthorized", route="sends") == 5


async def test_a_token_opens_the_port_to_other_hosts(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sends.is_loopback", lambda remote: False)
    edge.given.sends_token = b"the token"
    headers = {"Authorization": "Bearer the token"}
    call = {"api": "messages", "request": {}}
    async with edge.session.post(f"{edge.internal}/sends", json=call, headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", ["account", "application", "host"])
def test_control_characters_in_names_are_refused(name: str) -> None:
    """PostgreSQL takes no NUL: the message's row would never be written."""
    call = {"api": "messages", "request": {}, "answer": None, name: "a\0b"}
    with pytest.raises(Malformed):
        parse(json.dumps(call).encode(), 7)
