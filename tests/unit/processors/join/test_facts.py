"""The union of facts: order and repetition leave no trace."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from processors.join.contribution import NOTHING, Totals, contribution
from processors.join.derive import FINAL, PRECEDENCE, summarise
from processors.join.facts import MAX_FACTS, empty, union, with_fact, with_send
from schemas.codec import encode
from schemas.events import Fact, Send
from schemas.lifecycle import Lifecycle
from schemas.metrics import CARRIER_LATENCY, COST, MESSAGES, withdrawn

from strategies import facts, histories


def fold(history: list[Fact | Send]) -> Lifecycle:
    lifecycle = empty("m")
    for event in history:
        add = with_send if isinstance(event, Send) else with_fact
        lifecycle = add(lifecycle, event)  # type: ignore[operator]
    return lifecycle


def bytes_of(lifecycle: Lifecycle) -> bytes:
    return encode(lifecycle) + encode(summarise(lifecycle, "EUR"))


@given(histories, st.randoms(use_true_random=False))
def test_any_order_with_any_repetition_gives_the_same_bytes(
    history: list[Fact | Send], rng: random.Random
) -> None:
    other = history + rng.choices(history, k=len(history)) if history else []
    rng.shuffle(other)
    assert bytes_of(fold(history)) == bytes_of(fold(other))


@given(histories, histories, histories)
def test_union_is_commutative_associative_and_idempotent(
    a: list[Fact | Send], b: list[Fact | Send], c: list[Fact | Send]
) -> None:
    x, y, z = fold(a), fold(b), fold(c)
    assert encode(union(x, y)) == encode(union(y, x))
    assert encode(union(union(x, y), z)) == encode(union(x, union(y, z)))
    assert encode(union(x, x)) == encode(x)


@given(st.randoms(use_true_random=False))
def test_the_bound_of_64_does_not_depend_on_order(rng: random.Random) -> None:
    many = [
        Fact(kind="status", status=f"s{n:03}", arrived_at_us=n) for n in range(MAX_FACTS + 20)
    ] + [Fact(kind="status", status="delivered", arrived_at_us=999)]
    shuffled = list(many)
    rng.shuffle(shuffled)
    lifecycle = fold(list(shuffled))
    assert encode(lifecycle) == encode(fold(list(many)))
    assert len(lifecycle.facts) == MAX_FACTS
    assert lifecycle.truncated
    assert lifecycle.facts[0].status == "delivered"  # what decides is never cut


def test_exactly_64_facts_are_not_truncated() -> None:
    lifecycle = fold([Fact(kind="status", status=f"{n}", arrived_at_us=n) for n in range(64)])
    assert not lifecycle.truncated


@given(histories, facts)
def test_a_fact_never_lowers_what_is_known(history: list[Fact | Send], fact: Fact) -> None:
    before, after = fold(history), fold([*history, fact])
    if before.send is None or before.send.account is None:  # foreign facts are ignored
        old, new = summarise(before, "EUR"), summarise(after, "EUR")
        send_alone = {"refused", "untracked"}  # these hold only while nothing else is known
        assert old.outcome in send_alone or PRECEDENCE[new.outcome] <= PRECEDENCE[old.outcome]
        assert old.outcome not in FINAL - send_alone or new.is_final


def test_a_repeat_that_says_nothing_new_is_told_by_identity() -> None:
    fact = Fact(kind="status", status="delivered", arrived_at_us=5, client_ref="a")
    lifecycle = fold([fact])
    later = Fact(kind="status", status="delivered", arrived_at_us=9)
    assert with_fact(lifecycle, later) is lifecycle


@given(st.lists(histories, min_size=1, max_size=5))
def test_entered_minus_withdrawn_is_the_sum_over_lifecycles(
    lives: list[list[Fact | Send]],
) -> None:
    totals = Totals(limit=10_000)
    expected: dict[tuple[object, str], int] = {}
    observed = 0
    for history in lives:
        lifecycle, old = empty("m"), NOTHING
        for event in history:
            add = with_send if isinstance(event, Send) else with_fact
            lifecycle = add(lifecycle, event)  # type: ignore[operator]
            new = contribution(summarise(lifecycle, "EUR"))
            totals.move(old, new)
            observed += old.latency_ms is None and new.latency_ms is not None
            old = new
        for key, amount in old.amounts.items():
            expected[key] = expected.get(key, 0) + amount
    found: dict[tuple[object, str], int] = {}
    count = 0
    for labels, record in totals.changed():
        assert all(value > 0 for value in record.counters.values())
        for name in (MESSAGES.name, COST.name):
            entered = record.counters.get(name, 0)
            gone = record.counters.get(withdrawn(name), 0)
            if entered - gone:
                found[labels, name] = entered - gone
        for name, histogram in record.histograms.items():
            assert name == CARRIER_LATENCY.name
            count += sum(histogram.buckets)
    assert found == {key: amount for key, amount in expected.items() if amount}
    assert count == observed
