"""One cost per message: docs/rules.md 5."""

from __future__ import annotations

import pytest

from processors.join.policy import Policy

from strategies import Told, overdue, receipt, send, status, summary

SENT = send(price_units=7, channel="sms")
CHAT = "whatsapp"


@pytest.mark.parametrize(
    ("events", "cost", "source"),
    [
        # Never a sum over events; the price is that of the first fact by precedence.
        ([status("submitted", price_units=3)], 3, "event"),
        ([status("submitted", price_units=3), status("delivered", price_units=3)], 3, "event"),
        ([status("submitted", price_units=3), status("delivered", price_units=5)], 5, "event"),
        ([receipt("accepted", price_units=3), receipt("delivered")], 3, "event"),
        # Never multiplied by segments.
        ([status("delivered", price_units=3, segments=4)], 3, "event"),
        # SMS and MMS from submitted, others from delivered.
        ([status("submitted", price_units=3, channel="mms")], 3, "event"),
        ([status("submitted", price_units=3, channel=CHAT)], None, None),
        ([status("rejected", price_units=3, channel=CHAT)], None, None),
        ([status("delivered", price_units=3, channel=CHAT)], 3, "event"),
        ([status("submitted", price_units=3, channel=CHAT), status("read", channel=CHAT)], 3,
         "event"),
        ([status("delivered", price_units=0, channel=CHAT)], 0, "event"),
        # Else the answer's price, an estimate.
        ([SENT], 7, "estimate"),
        ([SENT, overdue()], 7, "estimate"),
        ([SENT, status("failed", price_units=3)], 3, "event"),
        ([send(price_units=7, channel=CHAT)], None, None),
        # Refused costs 0, and so does a ttl that ran out in silence in v0.1.
        ([send(price_units=7, channel="sms", refused=True)], 0, "event"),
        ([send(price_units=7, channel="sms", version="v0.1", ttl_ms=1), overdue()], 0, "event"),
        # It may be on its way: nobody knows.
        ([send(message_id="s.1", answer="unanswered", answer_status=None, channel="sms",
               price_units=7)], None, None),
    ],
)  # fmt: skip
def test_one_cost_per_message(events: list[Told], cost: int | None, source: str | None) -> None:
    found = summary(*events)
    assert (found.cost_units, found.cost_source) == (cost, source)


def test_the_estimate_stays_beside_the_price_of_the_event() -> None:
    found = summary(SENT, status("delivered", price_units=3))
    assert (found.estimate_units, found.cost_units) == (7, 3)


def test_receipts_have_no_currency_of_their_own() -> None:
    own = summary(status("delivered", price_units=3, currency="USD"))
    assert (own.currency, own.currency_source) == ("USD", "field")
    default = summary(receipt("delivered", price_units=3))
    assert (default.currency, default.currency_source) == ("EUR", "default")


def test_an_account_may_have_a_currency_of_its_own() -> None:
    policy = Policy(currencies={"acc1": "GBP"})
    found = summary(receipt("delivered", price_units=3, account="acc1"), policy=policy)
    assert (found.currency, found.currency_source) == ("GBP", "default")
