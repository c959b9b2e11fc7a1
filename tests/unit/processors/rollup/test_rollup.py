"""Rollups: what became of a send with several messages. docs/rules.md 3 (Roll-up)."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from processors.join.derive import summarise as summarise_message
from processors.join.policy import Policy
from processors.join.statuses import FINAL
from processors.rollup.contribution import contribution
from processors.rollup.derive import summarise
from processors.rollup.merge import MAX_ITEMS, empty, union, with_part
from processors.rollup.parts import part_of, parts_to_tell
from schemas.codec import encode
from schemas.events import Erase
from schemas.lifecycle import Lifecycle, Outcome
from schemas.rollup import Kind, Part, Rollup, RollupSummary

from strategies import Told, at, fold, overdue, send, status


def part(number: int, outcome: Outcome, kind: Kind = "parts", **more: object) -> Part:
    fields = {
        "message_id": f"m{number}",
        "number": number,
        "total": 3,
        "is_final": outcome in FINAL,
        "is_open": outcome == "pending",
        **more,
    }
    return Part(kind=kind, outcome=outcome, **fields)  # type: ignore[arg-type]


def rollup(*parts: Part) -> Rollup:
    found = empty("s")
    for position, one in enumerate(parts):
        found = with_part(found, one, position)
    return found


def summary(*parts: Part) -> RollupSummary:
    return summarise(rollup(*parts))


def of(*outcomes: Outcome, kind: Kind = "parts", **more: object) -> RollupSummary:
    return summary(*[part(n, outcome, kind, **more) for n, outcome in enumerate(outcomes, start=1)])


@pytest.mark.parametrize(
    ("outcomes", "rolled"),
    [
        (["delivered", "delivered", "delivered"], "delivered"),
        (["delivered", "read", "delivered"], "delivered"),
        (["read", "read", "read"], "read"),
        (["delivered", "delivered", "expired"], "partial"),
        (["delivered", "missing", "delivered"], "partial"),
        (["delivered", "pending", "failed"], "pending"),  # open while any is
        (["delivered", "delivered"], "pending"),  # one is not known yet
        (["expired", "failed", "unconfirmed"], "failed"),  # the worst
        (["refused", "refused", "expired"], "expired"),
        (["missing", "unconfirmed", "missing"], "unconfirmed"),
        (["untracked", "untracked", "untracked"], "untracked"),
    ],
)
def test_parts_of_one_text(outcomes: list[Outcome], rolled: str) -> None:
    assert of(*outcomes).outcome == rolled


@pytest.mark.parametrize(
    ("outcomes", "rolled"),
    [
        (["rejected", "delivered"], "delivered"),
        (["rejected", "read"], "read"),
        (["delivered", "pending"], "delivered"),
        (["rejected", "pending"], "pending"),
        (["rejected"], "rejected"),  # untried items count as nothing
        (["rejected", "undeliverable", "unconfirmed"], "unconfirmed"),  # the highest number
        (["failed", "expired"], "expired"),
        (["pending"], "pending"),
    ],
)
def test_failover(outcomes: list[Outcome], rolled: str) -> None:
    assert of(*outcomes, kind="failover").outcome == rolled


def test_an_unknown_status_is_open_until_its_deadline() -> None:
    assert of("unknown", total=1, is_open=True).outcome == "pending"
    assert of("unknown", total=1, is_open=False).outcome == "unknown"


def test_cost_is_summed_by_currency_and_the_last_part_counts() -> None:
    found = summary(
        part(1, "delivered", cost_units=3, currency="EUR", delivered_at_us=5, outcome_at_us=5,
             carrier_latency_ms=4, channel="sms"),
        part(2, "expired", cost_units=4, currency="EUR", outcome_at_us=9, channel="sms"),
        part(3, "delivered", cost_units=5, currency="USD", delivered_at_us=7, outcome_at_us=7,
             carrier_latency_ms=8, channel="sms"),
    )  # fmt: skip
    assert found == RollupSummary(
        outcome="partial",
        is_final=True,
        outcome_at_us=9,
        known=3,
        expected=3,
        delivered=2,
        worst="expired",
        last_delivered_at_us=7,
        slowest_carrier_latency_ms=8,
        costs=(("EUR", 7), ("USD", 5)),
        channel="sms",
    )


def test_a_rollup_without_parts_is_open() -> None:
    assert summarise(empty("s")) == RollupSummary(outcome="pending", is_open=True)


# -- union -------------------------------------------------------------------------------------

parts = st.builds(
    part,
    number=st.integers(1, 4),
    outcome=st.sampled_from(get_args(Outcome)),
    kind=st.sampled_from(["parts", "parts", "failover"]),
    cost_units=st.sampled_from([None, 3]),
    currency=st.sampled_from([None, "EUR"]),
    is_open=st.booleans(),
    moved=st.booleans(),
)
versions = st.lists(st.tuples(parts, st.integers(0, 9)), max_size=10)


def joined(given_versions: list[tuple[Part, int]]) -> Rollup:
    found = empty("s")
    for one, position in given_versions:
        found = with_part(found, one, position)
    return found


@given(versions, st.randoms(use_true_random=False))
def test_any_order_with_any_repetition_gives_the_same_bytes(
    history: list[tuple[Part, int]], rng: random.Random
) -> None:
    other = history + rng.choices(history, k=len(history)) if history else []
    rng.shuffle(other)
    one, two = joined(history), joined(other)
    assert encode(one) + encode(summarise(one)) == encode(two) + encode(summarise(two))


@given(versions, versions, versions)
def test_union_is_commutative_associative_and_idempotent(
    a: list[tuple[Part, int]], b: list[tuple[Part, int]], c: list[tuple[Part, int]]
) -> None:
    x, y, z = joined(a), joined(b), joined(c)
    assert encode(union(x, y)) == encode(union(y, x))
    assert encode(union(union(x, y), z)) == encode(union(x, union(y, z)))
    assert encode(union(x, x)) == encode(x)
    assert encode(union(x, y)) == encode(joined([*a, *b]))


def test_of_one_message_the_latest_version_counts() -> None:
    found = with_part(rollup(part(1, "pending")), part(1, "delivered"), 7)
    assert [item.part.outcome for item in found.items] == ["delivered"]
    assert with_part(found, part(1, "pending"), 3) is found


@given(st.randoms(use_true_random=False))
def test_the_bound_does_not_depend_on_order(rng: random.Random) -> None:
    many = [(part(n, "delivered"), n) for n in range(MAX_ITEMS + 9)]
    shuffled = list(many)
    rng.shuffle(shuffled)
    assert encode(joined(many)) == encode(joined(shuffled))
    assert len(joined(many).items) == MAX_ITEMS
    assert joined(many).truncated


# -- from lifecycles ---------------------------------------------------------------------------


def settled(*events: Told) -> Lifecycle:
    lifecycle = fold(list(events))
    return replace(lifecycle, summary=summarise_message(lifecycle, Policy()))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([send(api="sms", part=2, parts=3)], ("s", "parts", "s", 2, 3)),
        ([send(workflow_id="w", failover_items=1)], ("w", "failover", "s", 1, 2)),
        ([status("read", workflow_id="w", workflow_item=2)], ("w", "failover", None, 2, None)),
    ],
)
def test_the_key_is_the_workflow_else_the_send(
    events: list[Told], expected: tuple[object, ...]
) -> None:
    key, found = part_of(settled(*events)) or ("", part(0, "pending"))
    assert (key, found.kind, found.send_id, found.number, found.total) == expected


def test_a_message_alone_is_no_part_and_an_erased_one_neither() -> None:
    assert part_of(settled(send(), status("delivered"))) is None
    assert part_of(settled(send(parts=2), Erase(message_id="m", arrived_at_us=1))) is None


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([], [send(parts=2)], [("s", False)]),
        ([send(parts=2)], [], []),
        ([send(parts=2)], [status("delivered")], [("s", False)]),
        ([send(parts=2)], [send(parts=2, send_id="a")], [("a", False), ("s", True)]),
        ([send(parts=2)], [status("delivered", workflow_id="w")], [("w", False), ("s", True)]),
        ([send(parts=2)], [send(parts=1)], [("s", True)]),  # the records differ: it is alone
        ([send(parts=2, send_id="")], [status("delivered")], []),  # nobody could tell which
    ],
)
def test_where_the_key_changes_both_rollups_are_told(
    before: list[Told], after: list[Told], told: list[tuple[str, bool]]
) -> None:
    found = parts_to_tell(settled(*before), settled(*before, *after))
    assert [(key, one.moved) for key, one in found] == told


def test_what_moved_elsewhere_counts_no_more() -> None:
    moved = part(3, "failed", kind="failover", moved=True)
    without = of("delivered", "expired", total=2)
    assert summary(part(1, "delivered", total=2), part(2, "expired", total=2), moved) == without
    alone = rollup(moved)
    assert (summarise(alone).known, summarise(alone).is_open) == (0, True)
    assert not contribution(replace(alone, summary=summarise(alone))).amounts


def test_the_rollup_of_an_erased_message_is_told_and_waits_no_more() -> None:
    before = settled(send(parts=2))
    ((key, gone),) = parts_to_tell(before, settled(Erase(message_id="m", arrived_at_us=1)))
    assert (key, gone.erased, gone.moved) == ("s", True, False)
    other = part(1, "delivered", total=2)
    found = summary(other, gone)
    assert (found.outcome, found.known, found.expected, found.is_open) == ("delivered", 1, 1, False)
    alone = rollup(gone)
    assert not contribution(replace(alone, summary=summarise(alone))).amounts


def test_a_part_holds_nothing_personal() -> None:
    sent = send(parts=2, sender="Acme", recipient="447400123456", client_ref="Ms Smith")
    found = part_of(settled(sent, status("delivered")))
    assert not {b"Acme", b"447400123456", b"Ms Smith"} & set(encode(found).split(b'"'))


def test_a_part_says_whether_it_is_open() -> None:
    open_part = part_of(settled(send(parts=2), status("submitted", 1)))
    closed = part_of(settled(send(parts=2), status("submitted", 1), overdue()))
    assert open_part is not None
    assert closed is not None
    assert (open_part[1].is_open, closed[1].is_open) == (True, False)
    assert closed[1].outcome_at_us == at(73 * 3600)
