"""The comparison finds every difference, and nothing where there is none."""

from __future__ import annotations

import pytest

from sendtrace.simulator.compare import fact_differences, message_differences, rollup_differences
from sendtrace.simulator.ledger import Message, Rollup, RollupStanding, Standing

TOLD = Standing(outcome="pending", cost_units=5, currency="EUR", cost_source="estimate",
                possible=("no_send",))  # fmt: skip
SETTLED = Standing(outcome="unconfirmed", flags=("overdue",), cost_units=5, currency="EUR",
                   cost_source="estimate")  # fmt: skip
EXPECTED = Message(
    message_id="id", api="sms", planned_at_us=1, told=TOLD, settled=SETTLED, channel="sms",
    account="a", country="GB", network="23410", facts=(("accepted", ""), ("accepted", "7")),
)  # fmt: skip
SEEN: dict[str, object] = {
    "api": "sms", "channel": "sms", "account": "a", "country": "GB", "workflow_id": None,
    "part": 1, "parts": 1, "network_estimated": "23410", "network_final": None, "flags": [],
    "carrier_latency_ms": None, "deliver_latency_ms": None, "accept_latency_ms": None,
    "read_latency_ms": None, "outcome": "pending", "is_final": False, "code": None,
    "cost_units": 5, "currency": "EUR", "cost_source": "estimate",
}  # fmt: skip


def test_nothing_differs_where_all_is_as_expected() -> None:
    assert message_differences(EXPECTED, [TOLD], SEEN) == []
    assert message_differences(EXPECTED, [TOLD], SEEN | {"flags": ["no_send"]}) == []
    settled = SEEN | {"outcome": "unconfirmed", "flags": ["overdue"]}
    assert message_differences(EXPECTED, [TOLD, SETTLED], settled) == []
    assert message_differences(EXPECTED, [TOLD, SETTLED], SEEN) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "x") for name in SEEN if name not in ("flags", "network_estimated")),
        ("network_estimated", None),
        ("flags", ["late"]),
        ("flags", ["no_send", "late"]),
    ],
)
def test_every_field_counts(name: str, value: object) -> None:
    (sentence,) = message_differences(EXPECTED, [TOLD], SEEN | {name: value})
    assert sentence.startswith(name.removesuffix("_final").removesuffix("_estimated"))


def test_a_flag_that_must_be_there_and_is_not() -> None:
    told = message_differences(EXPECTED, [SETTLED], SEEN | {"outcome": "unconfirmed"})
    assert told == ["flags is [], not ['overdue']"]


def test_who_says_what_costs_nothing_is_not_asked() -> None:
    free = Standing(outcome="refused", cost_units=0, currency="EUR", cost_source="event")
    seen = SEEN | {"outcome": "refused", "cost_units": 0, "cost_source": "estimate"}
    assert message_differences(EXPECTED, [free], seen) == []


def test_facts_are_distinct_ones() -> None:
    seen = [("accepted", "7"), ("accepted", ""), ("accepted", "7")]
    assert fact_differences(EXPECTED, seen) == []
    assert len(fact_differences(EXPECTED, seen[:1])) == 1
    assert len(fact_differences(EXPECTED, [*seen, ("delivered", "")])) == 1


def test_rollups() -> None:
    standing = RollupStanding(
        outcome="failed", also=("rejected",), delivered=0, costs=(("EUR", 7),)
    )  # fmt: skip
    expected = Rollup(
        id="s", kind="parts", message_ids=("a", "b"), told=standing, settled=standing
    )  # fmt: skip
    seen: dict[str, object] = {
        "kind": "parts", "known": 2, "outcome": "rejected", "delivered": 0, "costs": [["EUR", 7]],
    }  # fmt: skip
    assert rollup_differences(expected, [standing], seen) == []
    for name, value in (
        ("kind", "failover"), ("known", 1), ("outcome", "delivered"), ("delivered", 1),
        ("costs", []),
    ):  # fmt: skip
        (sentence,) = rollup_differences(expected, [standing], seen | {name: value})
        assert sentence.startswith(name)
