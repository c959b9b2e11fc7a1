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
from sendtrace.simulator.parties import Leg
from sendtrace.simulator.sms_payloads import Item
from sendtrace.simulator.traffic import Plan, Profile
from sendtrace.simulator.webhook import request

Plans = Callable[..., list[Plan]]
AT_US = 1_582_207_442_345_000  # 2020-02-20 14:04:02.345
LEG = Leg("a1b2c3d4", "AcmeInc", "447700900000", "sms", "23410", "0.03330000", "ref", "Hello you")


def test_a_receipt_reads_as_documented() -> None:
    webhook = sms_payloads.receipt(LEG, "0A0000001234567B", ("delivered", "0"), AT_US, 1.0, "get")
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
    told = sms_payloads.receipt(LEG, "id", ("accepted", ""), AT_US, 1.0, "get", "alerts").fields
    assert "api-key" not in told
    assert "err-code" not in told


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
    new = messages_payloads.status(LEG, "id", ("rejected", "1240"), "v1", AT_US, 0.0).fields
    old = messages_payloads.status(LEG, "id", ("rejected", "1240"), "v0.1", AT_US, 0.0).fields
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
    fields = messages_payloads.status(leg, "id", ("delivered", ""), "v1", AT_US, 0.0).fields
    assert fields.keys() & {"destination", "sms", "usage", "whatsapp"} == has


def test_every_webhook_is_understood_as_what_it_is(plans: Plans) -> None:
    topic_of = {
        "status": topics.STATUSES, "delivery-receipt": topics.RECEIPTS, "inbound": topics.INBOUND,
    }  # fmt: skip
    for plan in plans(5, 2000):
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
    seen = Counter[tuple[str, bool]]()
    for plan in plans(5, 3000, Profile(inbound_share=0.0)):
        records = read(plan)
        assert [record.message_id for record in records] == [e.message_id for e in plan.expected]
        for record, expected in zip(records, plan.expected, strict=True):
            seen[expected.api, record.refused] += 1
            assert record.api == expected.api
            assert record.account == plan.send["account"] if plan.send else False
            assert record.refused == (expected.outcome == "refused")
            assert record.receipt_expected or expected.outcome in ("untracked", "refused")
            assert not record.receipt_expected or expected.outcome != "untracked"
    assert len(seen) == 6


def read(plan: Plan) -> list[Send]:
    """What the parsers make of a send."""
    send: Any = plan.send
    exchange = Exchange(
        send_id=send.get("send_id", "made-up"),
        arrived_at_us=AT_US,
        request=send["request"],
        answer_status=send["answer"]["status"],
        answer=send["answer"]["body"],
        account=send["account"],
    )
    return PARSERS[send["api"]](exchange)
