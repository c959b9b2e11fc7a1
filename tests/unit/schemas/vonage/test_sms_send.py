"""SMS and Alerts API: requests, and answers in JSON and XML (docs/vonage.md 8 and 9)."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.codec import encode
from schemas.vonage.answer_xml import parse_answer
from schemas.vonage.exchange import Exchange, Part, Request
from schemas.vonage.reasons import NotUnderstoodError, Reason
from schemas.vonage.sends import PARSERS, answer_body, request_fields
from schemas.vonage.sms import FORM
from schemas.vonage.sms_send import alert_sends, answer, request, sends


def exchange(answer: object, http_status: int | None = 200, **request: Any) -> Exchange:
    return Exchange(
        send_id="s1",
        arrived_at_us=5,
        request={"to": "447700900000", "from": "Acme", "text": "secret words", **request},
        answer_status=http_status,
        answer=answer,
    )


def test_parts_of_a_long_text_share_a_send_id_and_a_throttled_one_gets_an_id_of_ours() -> None:
    body = {
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
    first, second = sends(exchange(body, **{"client-ref": "ref", "ttl": "60000"}))
    assert (first.message_id, first.send_id, first.part, first.parts) == ("m1", "s1", 1, 2)
    assert (first.price_units, first.balance_units) == (3_330_000, 150_000_000)
    assert (first.network, first.client_ref, first.ttl_ms) == ("12345", "ref", 60_000)
    assert (first.answer, first.answer_status, first.refused) == ("accepted", "0", False)
    assert (second.message_id, second.send_id, second.part) == ("s1.2", "s1", 2)
    assert (second.recipient, second.answer_status) == ("447700900000", "1")
    assert (second.answer, second.refused, second.error_text) == ("throttled", True, "Throttled")


def test_several_recipients_are_several_sends() -> None:
    body = {
        "messages": [
            {"to": "447700900000", "message-id": "m1", "status": "0"},
            {"to": "447700900009", "message-id": "", "status": 0},
        ]
    }
    found = [(send.message_id, send.send_id, send.parts) for send in sends(exchange(body))]
    assert found == [("m1", "s1", 1), ("s1-2.1", "s1-2", 1)]


@pytest.mark.parametrize(
    ("body", "http_status", "answer_status", "kind"),
    [
        (None, None, None, "unanswered"),
        (None, 200, None, "unreadable"),
        ({"messages": []}, 200, None, "unreadable"),
        ({"messages": ["error"]}, 200, None, "unreadable"),
        ("<html>", 200, None, "unreadable"),
        ("Error", 429, "http-429", "throttled"),
        ("", 401, "http-401", "refused"),
        ("Bad gateway", 502, None, "unanswered"),
        ({"error-code": "401", "error-code-label": "Invalid auth token"}, 401, "http-401",
         "refused"),
        ({"type": "", "title": "t", "detail": "d"}, 400, "http-400", "refused"),
        ({"messages": {"message-id": "m", "status": "0"}}, 200, "0", "accepted"),
        ({"messages": [{"status": 2, "message-id": "m"}]}, 200, "2", "refused"),
        ({"messages": [{"status": "1"}]}, 200, "1", "throttled"),
        ({"messages": [{"status": "delivered"}]}, 200, "delivered", "unreadable"),
        ({"messages": [{"status": ""}]}, 200, None, "unreadable"),
    ],
)  # fmt: skip
def test_what_kind_an_answer_is(
    body: object, http_status: int | None, answer_status: str | None, kind: str
) -> None:
    [send] = sends(exchange(body, http_status))
    assert (send.answer, send.answer_status) == (kind, answer_status)
    assert send.refused is (kind in ("refused", "throttled"))
    assert send.message_id in ("m", "s1.1")


def test_numbers_and_both_spellings_of_an_old_answer() -> None:
    item = {
        "message-id": "m",
        "messageId": "m",
        "remaining-balance": 7.546,
        "status": "0",
        "message-price": 0.0048,
        "ok": True,
        "msisdn": "15555551212",
        "network": "US-FIXED",
    }
    assert answer(200, {"messages": [item]}) == [
        Part(
            kind="accepted",
            message_id="m",
            status="0",
            recipient="15555551212",
            network="US-FIXED",
            price_units=480_000,
            balance_units=754_600_000,
        )
    ]  # fmt: skip


XML = """<?xml version='1.0' encoding='ISO-8859-1' ?>
<mt-submission-response><messages count='2'>
  <message><messageId>m1</messageId><to>447700900000</to><clientRef>\u00e9 &amp; b</clientRef>
    <status>0</status><remainingBalance>1.5</remainingBalance><messagePrice>0.0333</messagePrice>
    <network>12345</network><WHATISTHIS><b>deep</b></WHATISTHIS></message>
  <message><status>1</status><errorText> Throttled </errorText><to/></message>
</messages></mt-submission-response>"""


def test_an_answer_in_xml_says_the_same_as_in_json() -> None:
    as_json = {
        "messages": [
            {"message-id": "m1", "to": "447700900000", "client-ref": "\u00e9 & b", "status": "0",
             "remaining-balance": "1.5", "message-price": "0.0333", "network": "12345"},
            {"status": "1", "error-text": "Throttled"},
        ]
    }  # fmt: skip
    assert sends(exchange(XML)) == sends(exchange(as_json))
    assert sends(exchange(answer_body(XML.encode()))) == sends(exchange(as_json))


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 9}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "document",
    [
        "",
        "<",
        "<a/>",
        "<mt-submission-response>",
        XML + "<more/>",
        "<mt-submission-response>\x01</mt-submission-response>",
        f"<!DOCTYPE a [{BOMB}]><mt-submission-response>&a11;</mt-submission-response>",
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><mt-submission-response/>',
    ],
)
def test_what_is_no_answer_in_xml(document: str) -> None:
    with pytest.raises(NotUnderstoodError) as caught:
        parse_answer(document)
    assert caught.value.reason is Reason.NOT_XML
    [send] = sends(exchange(document))
    assert send.answer == "unreadable"


def test_deep_xml_is_no_trouble() -> None:
    deep = "<a>" * 100_000 + "</a>" * 100_000
    document = f"<mt-submission-response><message>{deep}</message></mt-submission-response>"
    assert parse_answer(document) == {"messages": [{"a": ""}]}


def test_everything_that_a_request_may_ask_for() -> None:
    raw = (
        b"api_key=k&api_secret=secret&from=AcmeInc&to=447700900000&text=secret&ttl=900000"
        b"&status-report-req=false&callback=https%3A%2F%2Fexample.com%2Fsms-dlr%3Fsecret"
        b"&message-class=0&type=binary&body=00ff&udh=0605&client-ref=r&account-ref=a"
        b"&entity-id=e&content-id=c&pool-id=p"
    )
    expected = Request(
        api="sms",
        claimed_account="k",
        channel="sms",
        sender="AcmeInc",
        recipient="447700900000",
        client_ref="r",
        encoding="binary",
        ttl_ms=900_000,
        receipt_expected=False,
        callback_host="example.com",
        message_class=0,
        pool_id="p",
        entity_id="e",
        content_id="c",
    )
    assert request(request_fields(b"", FORM, raw)) == expected
    assert request(request_fields(raw, None, b"")) == expected
    assert b"secret" not in encode(sends(exchange(None, **request_fields(raw, None, b""))))


@pytest.mark.parametrize(
    ("asked", "of_sms", "of_alerts"),
    [
        (False, False, False),
        (0, False, False),
        ("0", False, False),
        ("False", False, False),
        (True, True, True),
        (1, True, True),
        ("1", True, True),
        ("TRUE", True, True),
        (None, True, False),
        ("", True, False),
        ("odd", True, False),
    ],
)
def test_whether_a_receipt_was_asked_for(asked: object, of_sms: bool, of_alerts: bool) -> None:
    """Alerts give none unless asked, the SMS API one unless told not to (docs/vonage.md 9)."""
    given = exchange(None, None, **{"status-report-req": asked})
    assert [send.receipt_expected for send in sends(given)] == [of_sms]
    assert [send.receipt_expected for send in alert_sends(given)] == [of_alerts]


def test_an_alert_has_a_template_and_its_parameters_are_content() -> None:
    given = Exchange(
        send_id="s1",
        arrived_at_us=5,
        request={"to": "16365553226", "template": "2", "server": "secret", "link": "secret"},
        answer_status=200,
        answer={"messages": [{"status": "101", "error-text": "Invalid Account for Campaign"}]},
    )
    [send] = PARSERS["alerts"](given)
    assert (send.api, send.template, send.recipient) == ("alerts", "2", "16365553226")
    assert (send.answer, send.answer_status) == ("refused", "101")
    assert b"secret" not in encode(send)


@pytest.mark.parametrize("media", ["application/json", "text/x-javascript", None])
def test_a_request_in_json(media: str | None) -> None:
    assert request_fields(b"", media, b'{"to":"447"}') == {"to": "447"}
