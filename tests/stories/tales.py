"""Ten stories of messages, as data: what was sent, what Vonage said, and what follows."""

from __future__ import annotations

from stories.telling import (
    ACCEPTED,
    HOUR,
    PART,
    PRICED,
    WHOSE,
    Sent,
    Story,
    chat_status,
    dlr,
    part,
    receipt,
    sent_sms,
    sms_status,
    status,
    us,
)

# fmt: off
MULTI_PART = Story(
    name="multi-part with one lost receipt",
    tale="A long text goes out as three SMS. Two arrive; of the third nothing is ever heard.",
    steps=(
        Sent(
            at_s=0, api="sms", send_id="long",
            request={"from": "Acme", "to": "447400123456", "text": "never kept"},
            answer_status=200,
            answer={"message-count": "3", "messages": [part("1"), part("2"), part("3")]},
        ),
        receipt(3, dlr("part-1", "accepted", 2)),
        receipt(5, dlr("part-1", "delivered", 4)),
        receipt(6, dlr("part-2", "delivered", 5)),
        receipt(66, dlr("part-2", "delivered", 65)),  # Vonage repeats it, with a new time
    ),
    until_s=100 * HOUR,
    messages={
        "part-1": {
            **PART, **PRICED, "outcome": "delivered", "is_final": True, "outcome_at_us": us(4),
            "outcome_clock": "vonage", "status_last": "delivered", "network_final": "23410",
            "parts": 3, "submitted_at_us": us(2), "delivered_at_us": us(4),
            "carrier_latency_ms": 2000, "deliver_latency_ms": 4000, "callback_latency_ms": 1000,
            "ingest_lag_ms": 1000, "currency_source": "default", "first_event_at_us": us(3),
            "last_event_at_us": us(5),
        },
        "part-2": {
            **PART, **PRICED, "outcome": "delivered", "is_final": True, "outcome_at_us": us(5),
            "outcome_clock": "vonage", "status_last": "delivered", "network_final": "23410",
            "part": 2, "parts": 3, "delivered_at_us": us(5), "deliver_latency_ms": 5000,
            "callback_latency_ms": 1000, "ingest_lag_ms": 1000, "currency_source": "default",
            "first_event_at_us": us(6), "last_event_at_us": us(6),
        },
        "part-3": {
            **PART, "outcome": "missing", "outcome_at_us": us(262800), "outcome_clock": "ours",
            "part": 3, "parts": 3, "cost_units": 4_000_000, "currency": "EUR",
            "currency_source": "default", "cost_source": "estimate",
            "flags": ["no_first_event", "overdue"],
        },
    },
    rollups={
        "long": {
            "outcome": "partial", "outcome_at_us": us(262800), "known": 3, "expected": 3,
            "delivered": 2, "worst": "missing", "last_delivered_at_us": us(5),
            "slowest_carrier_latency_ms": 2000, "sent_at_us": us(-0.25),
            "costs": [["EUR", 10_660_000]], "api": "sms", "channel": "sms",
            "account": "abcd1234",
        },
    },
)
FAILOVER = Story(
    name="failover from RCS to SMS",
    tale="The phone has no RCS. Vonage rejects the first item and sends the second by SMS.",
    steps=(
        Sent(
            at_s=0, api="messages", send_id="fail-over",
            request={
                "channel": "rcs", "to": "447400123456", "from": "Acme", "message_type": "text",
                "failover": [{"channel": "sms", "to": "447400123456", "from": "Acme"}],
            },
            answer_status=202, answer={"message_uuid": "rcs-1", "workflow_id": "flow-1"},
        ),
        status(2, chat_status("rcs-1", "submitted", 1, channel="rcs", workflow={
            "workflow_id": "flow-1", "items_number": "1", "items_total": "2"})),
        status(4, chat_status("rcs-1", "rejected", 3, channel="rcs", error={
            "type": "https://developer.vonage.com/api-errors/messages#1310", "title": "1310",
            "detail": "The device cannot show it", "instance": "bf0ca0bf"},
            workflow={"workflow_id": "flow-1", "items_number": "1", "items_total": "2"})),
        status(6, sms_status("sms-2", "submitted", 5, workflow={
            "workflow_id": "flow-1", "items_number": "2", "items_total": "2"})),
        status(9, sms_status("sms-2", "delivered", 8, workflow={
            "workflow_id": "flow-1", "items_number": "2", "items_total": "2"})),
    ),
    messages={
        "rcs-1": {
            **WHOSE, **ACCEPTED, "outcome": "rejected", "is_final": True,
            "outcome_at_us": us(3), "outcome_clock": "vonage", "status_last": "rejected",
            "code": "1310", "category": "number", "error_instance": "bf0ca0bf",
            "api": "messages", "channel": "rcs", "workflow_id": "flow-1", "workflow_item": 1,
            "workflow_items": 2, "submitted_at_us": us(1), "callback_latency_ms": 1000,
            "ingest_lag_ms": 1000, "first_event_at_us": us(2), "last_event_at_us": us(4),
        },
        "sms-2": {
            **WHOSE, **PRICED, "outcome": "delivered", "is_final": True, "outcome_at_us": us(8),
            "outcome_clock": "vonage", "status_last": "delivered", "api": "messages",
            "network_final": "23410", "workflow_id": "flow-1", "workflow_item": 2,
            "workflow_items": 2, "segments": 1, "submitted_at_us": us(5),
            "delivered_at_us": us(8), "carrier_latency_ms": 3000, "callback_latency_ms": 1000,
            "ingest_lag_ms": 1000, "first_event_at_us": us(6), "last_event_at_us": us(9),
        },
    },
    rollups={
        "flow-1": {
            "outcome": "delivered", "is_final": True, "outcome_at_us": us(8), "known": 2,
            "delivered": 1, "decided_by": "sms-2", "worst": "rejected",
            "last_delivered_at_us": us(8), "slowest_carrier_latency_ms": 3000,
            "sent_at_us": us(-0.25), "costs": [["EUR", 3_330_000]], "api": "messages",
            "channel": "sms", "account": "abcd1234",
        },
    },
)
READ_ONLY = Story(
    name="read without delivered",
    tale="WhatsApp leaves out `delivered` when both happen at once: read implies it.",
    steps=(
        status(2, chat_status("chat-1", "submitted", 1)),
        status(8, chat_status("chat-1", "read", 7, usage={"currency": "EUR", "price": "0.05"})),
    ),
    messages={
        "chat-1": {
            **WHOSE, **PRICED, "outcome": "read", "is_final": True, "outcome_at_us": us(7),
            "outcome_clock": "vonage", "status_last": "read", "api": "messages",
            "channel": "whatsapp", "submitted_at_us": us(1), "read_at_us": us(7),
            "callback_latency_ms": 1000, "ingest_lag_ms": 1000, "cost_units": 5_000_000,
            "first_event_at_us": us(2), "last_event_at_us": us(8),
        },
    },
)
CONTRADICTION = Story(
    name="rejected, then delivered",
    tale="A carrier says no, then yes. It was delivered, and someone should know.",
    steps=(
        sent_sms(),
        status(2, sms_status("sms-1", "submitted", 1)),
        status(5, sms_status("sms-1", "rejected", 4, error={"title": "1210"})),
        status(8, sms_status("sms-1", "delivered", 7)),
    ),
    messages={
        "sms-1": {
            **WHOSE, **ACCEPTED, **PRICED, "outcome": "delivered", "is_final": True,
            "outcome_at_us": us(7), "outcome_clock": "vonage", "status_last": "delivered",
            "api": "messages", "network_final": "23410", "segments": 1,
            "submitted_at_us": us(1), "delivered_at_us": us(7), "carrier_latency_ms": 6000,
            "deliver_latency_ms": 7000, "callback_latency_ms": 1000, "ingest_lag_ms": 1000,
            "first_event_at_us": us(2), "last_event_at_us": us(8), "flags": ["contradiction"],
        },
    },
)
EARLY = Story(
    name="the receipt before the send",
    tale="Webhooks overtake each other, and both overtake the record of the send.",
    steps=(
        status(4.5, sms_status("sms-1", "delivered", 4)),
        status(4.6, sms_status("sms-1", "submitted", 1)),
        sent_sms(at_s=5),
    ),
    messages={
        "sms-1": {
            **WHOSE, **ACCEPTED, **PRICED, "outcome": "delivered", "is_final": True,
            "outcome_at_us": us(4), "outcome_clock": "vonage", "status_last": "delivered",
            "api": "messages", "network_final": "23410", "segments": 1,
            "submitted_at_us": us(1), "delivered_at_us": us(4), "carrier_latency_ms": 3000,
            "deliver_latency_ms": 4000, "callback_latency_ms": 3000, "ingest_lag_ms": 3000,
            "first_event_at_us": us(4.5), "last_event_at_us": us(4.6),
        },
    },
)
SILENCE = Story(
    name="silence",
    tale="Accepted, and nothing comes back: a wrong webhook address. Someone is called.",
    steps=(sent_sms(),),
    until_s=100 * HOUR,
    messages={
        "sms-1": {
            **WHOSE, **ACCEPTED, "outcome": "missing", "outcome_at_us": us(262800),
            "outcome_clock": "ours", "api": "messages", "flags": ["no_first_event", "overdue"],
        },
    },
)
UNTRACKED = Story(
    name="untracked",
    tale="No receipt was asked for, so its absence says nothing, for ever.",
    steps=(
        Sent(
            at_s=0, api="sms", send_id="quiet",
            request={"from": "Acme", "to": "447400123456", "status-report-req": "false"},
            answer_status=200, answer={"message-count": "1", "messages": [part("1")]},
        ),
    ),
    until_s=100 * HOUR,
    messages={
        "part-1": {
            **PART, "outcome": "untracked", "receipt_expected": False, "cost_units": 4_000_000,
            "currency": "EUR", "currency_source": "default", "cost_source": "estimate",
        },
    },
)
REFUSED = Story(
    name="refused",
    tale="Two parts, and the second is throttled: it has no id, costs nothing, and did not fail.",
    steps=(
        Sent(
            at_s=0, api="sms", send_id="burst",
            request={"from": "Acme", "to": "447400123456"},
            answer_status=200,
            answer={"message-count": "2", "messages": [
                part("1"), {"status": "1", "error-text": "Throttled"}]},
        ),
        receipt(5, dlr("part-1", "delivered", 4)),
    ),
    messages={
        "part-1": {
            **PART, **PRICED, "outcome": "delivered", "is_final": True, "outcome_at_us": us(4),
            "outcome_clock": "vonage", "status_last": "delivered", "network_final": "23410",
            "parts": 2, "delivered_at_us": us(4), "deliver_latency_ms": 4000,
            "callback_latency_ms": 1000, "ingest_lag_ms": 1000, "currency_source": "default",
            "first_event_at_us": us(5), "last_event_at_us": us(5),
        },
        "burst.2": {
            **WHOSE, **ACCEPTED, **PRICED, "outcome": "refused", "is_final": True,
            "outcome_at_us": us(0), "outcome_clock": "ours", "code": "1",
            "category": "throttle", "api": "sms", "part": 2, "parts": 2, "answer": "throttled",
            "answer_status": "1", "cost_units": 0, "currency_source": "default",
        },
    },
    rollups={
        "burst": {
            "outcome": "partial", "is_final": True, "outcome_at_us": us(4), "known": 2,
            "expected": 2, "delivered": 1, "worst": "refused", "last_delivered_at_us": us(4),
            "sent_at_us": us(-0.25), "costs": [["EUR", 3_330_000]], "api": "sms",
            "channel": "sms", "account": "abcd1234",
        },
    },
)
EXPIRED = Story(
    name="expired at 72 hours",
    tale="The carrier never says a word, and Vonage makes up a receipt: nobody confirmed it.",
    steps=(
        Sent(
            at_s=0, api="sms", send_id="lost",
            request={"from": "Acme", "to": "447400123456"},
            answer_status=200, answer={"message-count": "1", "messages": [part("1")]},
        ),
        receipt(3, dlr("part-1", "accepted", 2)),
        receipt(72 * HOUR + 1, dlr("part-1", "expired", 72 * HOUR, code="1")),
    ),
    until_s=100 * HOUR,
    messages={
        "part-1": {
            **PART, **PRICED, "outcome": "expired", "is_final": True,
            "outcome_at_us": us(259200), "outcome_clock": "vonage", "status_last": "expired",
            "code": "1", "category": "no_confirmation", "network_final": "23410",
            "submitted_at_us": us(2), "callback_latency_ms": 1000, "ingest_lag_ms": 1000,
            "currency_source": "default", "first_event_at_us": us(3),
            "last_event_at_us": us(259201),
        },
    },
)
TWO_ACCOUNTS = Story(
    name="two accounts",
    tale="Another customer's signature under our message's id: kept, told, and not believed.",
    steps=(
        sent_sms(),
        status(2, sms_status("sms-1", "submitted", 1)),
        status(5, sms_status("sms-1", "delivered", 4), account="99999999"),
    ),
    messages={
        "sms-1": {
            **WHOSE, **ACCEPTED, **PRICED, "outcome": "pending", "is_open": True,
            "outcome_at_us": us(1), "outcome_clock": "vonage", "status_last": "submitted",
            "api": "messages", "network_final": "23410", "segments": 1,
            "submitted_at_us": us(1), "callback_latency_ms": 1000, "ingest_lag_ms": 1000,
            "first_event_at_us": us(2), "last_event_at_us": us(5), "flags": ["foreign_account"],
        },
    },
)
# fmt: on

STORIES = (
    MULTI_PART, FAILOVER, READ_ONLY, CONTRADICTION, EARLY, SILENCE, UNTRACKED, REFUSED, EXPIRED,
    TWO_ACCOUNTS,
)  # fmt: skip
