"""Hypothesis strategies for facts and sends: few values each, so that they collide often."""

from __future__ import annotations

from hypothesis import strategies as st

from schemas.events import Fact, Send

TIMES_US = st.integers(1, 40).map(lambda n: 1_700_000_000_000_000 + n * 500_000)
STATUSES = st.sampled_from(
    ["submitted", "delivered", "read", "rejected", "failed", "expired", "accepted", "new-word"]
)

facts = st.builds(
    Fact,
    kind=st.sampled_from(["status", "receipt"]),
    status=STATUSES,
    code=st.sampled_from(["", "7", "1300"]),
    segment=st.sampled_from(["", "1"]),
    account=st.sampled_from(["", "acc1", "acc2"]),
    arrived_at_us=TIMES_US,
    provider_at_us=st.none() | TIMES_US,
    provider_step_us=st.sampled_from([1_000, 1_000_000]),
    api=st.sampled_from([None, "messages", "sms_or_alerts"]),
    channel=st.sampled_from([None, "sms", "whatsapp"]),
    price_units=st.sampled_from([None, 0, 3_330_000, 4_000_000]),
    currency=st.sampled_from([None, "EUR"]),
    client_ref=st.sampled_from([None, "a", "b"]),
)
sends = st.builds(
    Send,
    message_id=st.just("m"),
    send_id=st.just("s"),
    api=st.sampled_from(["messages", "sms"]),
    arrived_at_us=TIMES_US,
    account=st.sampled_from([None, "acc1"]),
    price_units=st.sampled_from([None, 3_000_000]),
    refused=st.booleans(),
    receipt_expected=st.booleans(),
)
histories = st.lists(facts | sends, max_size=12)
