"""The templates against the documents' own words, and against who has to read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from schemas import topics
from schemas.events import Send
from schemas.vonage.detect import Detected, detect
from schemas.vonage.exchange import Exchange
from schemas.vonage.sends import PARSERS
from sendtrace.simulator import messages_payloads, sms_payloads
from sendtrace.simulator.parties import NETWORKS, Leg
from sendtrace.simulator.plan import Plan
from sendtrace.simulator.sms_payloads import Item
from sendtrace.simulator.webhook import Told, Workflow, request

Plans = Callable[..., list[Plan]]
AT_US = 1_582_207_442_345_000  # 2020-02-20 14:04:02.345
LEG = Leg(
    "a1b2c3d4", "AcmeInc", "447700900000", "sms", NETWORKS["23410"], "0.03000000", "0.03330000",
    "ref", "Hello you",
)  # fmt: skip


def told(status: str, code: str = "", after_seconds: float = 0.0) -> Told:
    return Told(status, code, AT_US + int(after_seconds * 1_000_000), after_seconds)


def test_a_receipt_reads_as_documented() -> None:
    webhook = sms_payloads.receipt(LEG, "0A0000001234567B", told("delivered", "0", 1.0), "get")
    assert dict(webhook.fields) == {
        "msisdn": "447700900000",
        "to": "AcmeInc",
        "network-code": "23410",
        "messageId": "0A0000001234567B",
        "price": "0.03330000",
        "status": "delivered",
        "scts": "2002201404",
        "err-code": "0",
        "api-key": "a1b2c3d4",
        "client-ref": "ref",
        "message-timestamp": "2020-02-20 14:04:03",
    }


def test_a_receipt_of_the_alerts_api_names_no_account_and_one_without_code_has_none() -> None:
    fields = sms_payloads.receipt(LEG, "id", told("accepted"), "get", "alerts").fields
    assert "api-key" not in fields
    assert "err-code" not in fields


def test_a_time_with_backslashes_is_as_a_document_shows_it() -> None:
    slashed = Told("delivered", "0", AT_US, has_backslashes=True)
    fields = sms_payloads.receipt(LEG, "id", slashed, "get").fields
    assert fields["message-timestamp"] == "\\2020-02-20\\ 14:04:02"


def test_an_answer_in_xml_has_the_documents_elements() -> None:
    items = [Item("id-1"), Item(None, "1", "Throttled & tired")]
    body: Any = sms_payloads.send(LEG, items, (AT_US, AT_US), "s", "xml", True)["answer"]
    text = body["body"]
    assert text.startswith("<?xml version='1.0' encoding='UTF-8' ?>\n<mt-submission-response>\n")
    assert "<messages count='2'>" in text
    assert "<messageId>id-1</messageId>" in text
    assert "<errorText>Throttled &amp; tired</errorText>" in text
    assert text.count("<messageId>") == 1


def test_a_status_of_v1_and_one_of_v01() -> None:
    new = messages_payloads.status(LEG, "id", told("rejected", "1240"), "v1").fields
    old = messages_payloads.status(LEG, "id", told("rejected", "1240"), "v0.1").fields
    assert (new["to"], new["timestamp"]) == ("447700900000", "2020-02-20T14:04:02Z")
    assert new["error"] == {
        "type": "https://developer.vonage.com/api-errors/messages#1240",
        "title": "1240",
        "detail": "Illegal Number",
        "instance": "id",
    }
    assert (old["to"], old["timestamp"]) == (
        {"type": "sms", "number": "447700900000"},
        "2020-02-20T14:04:02.345Z",
    )
    assert old["error"] == {"code": 1240, "reason": "Illegal Number"}
    assert "channel" not in old


@pytest.mark.parametrize(
    ("channel", "has"),
    [
        ("sms", {"destination", "sms", "usage"}),
        ("mms", {"destination", "usage"}),
        ("rcs", {"destination"}),
        ("whatsapp", {"whatsapp", "usage"}),
        ("messenger", {"usage"}),
        ("viber_service", {"usage"}),
    ],
)
def test_what_a_delivered_status_has_by_channel(channel: str, has: set[str]) -> None:
    leg = Leg(**{**vars(LEG), "channel": channel})
    fields = messages_payloads.status(leg, "id", told("delivered"), "v1").fields
    assert fields.keys() & {"destination", "sms", "usage", "whatsapp"} == has


def test_an_item_of_a_failover_says_which_it_is() -> None:
    fields = messages_payloads.status(LEG, "id", told("delivered"), "v1", Workflow("w", 2, 2))
    assert fields.fields["workflow"] == {
        "workflow_id": "w", "items_number": "2", "items_total": "2",
    }  # fmt: skip


def test_segments_are_told_with_their_times_or_counted() -> None:
    long = Leg(**{**vars(LEG), "text": "x" * 161})
    timed = Told("delivered", "", AT_US, segments_at_us=(AT_US - 3_000_000, AT_US))
    assert messages_payloads.status(long, "id", timed, "v1").fields["sms"] == {
        "total_count": "2",
        "segments": [
            {"timestamp": "2020-02-20T14:03:59Z", "status": "delivered"},
            {"timestamp": "2020-02-20T14:04:02Z", "status": "delivered"},
        ],
    }
    counted = messages_payloads.status(long, "id", told("delivered"), "v1").fields["sms"]
    assert counted == {"count_total": "2"}


@pytest.mark.parametrize(
    ("price", "told"), [("0.03330000", "0.0333"), ("0.00000000", "0"), ("1.50000000", "1.5")]
)
def test_usage_writes_money_as_short_as_it_can(price: str, told: str) -> None:
    leg = Leg(**{**vars(LEG), "price": price})
    fields = messages_payloads.status(leg, "id", Told("delivered", "", AT_US), "v1").fields
    assert fields["usage"] == {"currency": "EUR", "price": told}


def test_a_ttl_is_in_milliseconds_here_and_in_seconds_there() -> None:
    sms = sms_payloads.send(LEG, [Item("id")], (AT_US, AT_US), None, "json", True, 300)
    messages = messages_payloads.send(LEG, "id", "v1", (AT_US, AT_US), None, 300)
    assert isinstance(sms["request"], dict)
    assert isinstance(messages["request"], dict)
    assert (sms["request"]["ttl"], messages["request"]["ttl"]) == ("300000", 300)


def test_every_webhook_is_understood_as_what_it_is(plans: Plans) -> None:
    topic_of = {
        "status": topics.STATUSES, "delivery-receipt": topics.RECEIPTS, "inbound": topics.INBOUND,
    }  # fmt: skip
    for plan in plans(5, 3000, "everything"):
        for webhook in plan.webhooks:
            sent = request(webhook)
            found = detect(
                sent.method, sent.path, sent.query.encode(), sent.content_type, sent.body
            )
            assert isinstance(found, Detected), webhook
            assert found.topic == topic_of[webhook.kind]
            if webhook.kind != "inbound":
                assert found.key == webhook.message_id.encode()


def test_every_send_makes_the_messages_that_are_expected(plans: Plans) -> None:
    seen = Counter[tuple[str, str]]()
    for plan in plans(5, 3000, "everything"):
        if plan.send is None:
            continue
        own = [message for message in plan.messages if message.accept_latency_ms is not None
               or message.told.outcome == "unanswered"]  # fmt: skip
        records = read(plan)
        assert [record.message_id for record in records] == [one.message_id for one in own]
        for record, expected in zip(records, own, strict=True):
            seen[expected.api, expected.told.outcome] += 1
            assert record.api == expected.api
            assert record.account == expected.account
            assert record.workflow_id == expected.workflow_id
            assert (record.part, record.parts) == (expected.part, expected.parts)
            assert expected.send_id in (None, record.send_id)
            outcome = expected.told.outcome
            assert record.refused == (outcome == "refused")
            assert (record.answer == "unanswered") == (outcome == "unanswered")
            assert record.receipt_expected != (outcome == "untracked") or record.refused
    assert {api for api, outcome in seen if outcome == "refused"} == {"messages", "sms", "alerts"}
    assert {api for api, outcome in seen if outcome == "unanswered"} == {
        "messages",
        "sms",
        "alerts",
    }


def read(plan: Plan) -> list[Send]:
    """What the parsers make of a send."""
    send: Any = plan.send
    exchange = Exchange(
        send_id=send.get("send_id", "made-up"),
        arrived_at_us=AT_US,
        request=send["request"],
        answer_status=send["answer"]["status"] if "answer" in send else None,
        answer=send["answer"]["body"] if "answer" in send else None,
        account=send["account"],
    )
    return PARSERS[send["api"]](exchange)
