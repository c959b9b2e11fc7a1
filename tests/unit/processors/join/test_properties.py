"""Properties of the join: order and repetition leave no trace, and every function is total."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from processors.join.contribution import NOTHING, Totals, contribution
from processors.join.deadlines import fire, next_deadline
from processors.join.derive import summarise
from processors.join.facts import empty, union, with_fact
from processors.join.policy import Policy
from processors.join.statuses import FINAL, PRECEDENCE
from schemas.codec import decode_lifecycle, encode
from schemas.events import Fact
from schemas.lifecycle import Lifecycle
from schemas.metrics import CATALOGUE, LATENCIES, withdrawn

from strategies import (
    POLICIES,
    START_US,
    Told,
    add,
    erases,
    facts,
    fold,
    histories,
    histories_with_erase,
    sends,
    twins,
)

GAPS = ((START_US, START_US + 700_000_000), (START_US + 900_000_000, START_US + 950_000_000))


def bytes_of(lifecycle: Lifecycle, policy: Policy) -> bytes:
    return encode(lifecycle) + encode(summarise(lifecycle, policy))


@given(histories_with_erase, POLICIES, st.randoms(use_true_random=False))
def test_any_order_with_any_repetition_gives_the_same_bytes(
    history: list[Told], policy: Policy, rng: random.Random
) -> None:
    other = history + rng.choices(history, k=len(history)) if history else []
    rng.shuffle(other)
    assert bytes_of(fold(history), policy) == bytes_of(fold(other), policy)


@given(st.lists(twins | sends, min_size=2, max_size=5), POLICIES)
def test_no_order_of_what_was_told_differently_is_better(
    history: list[Told], policy: Policy
) -> None:
    """Few identities, so that nearly every event has to be merged with another one."""
    assert bytes_of(fold(history), policy) == bytes_of(fold(history[::-1]), policy)


@given(histories_with_erase, histories_with_erase, histories_with_erase)
def test_union_is_commutative_associative_and_idempotent(
    a: list[Told], b: list[Told], c: list[Told]
) -> None:
    x, y, z = fold(a), fold(b), fold(c)
    assert encode(union(x, y)) == encode(union(y, x))
    assert encode(union(union(x, y), z)) == encode(union(x, union(y, z)))
    assert encode(union(x, x)) == encode(x)


@given(histories_with_erase, histories_with_erase)
def test_the_union_of_two_halves_is_the_whole(a: list[Told], b: list[Told]) -> None:
    """So a fragment that began after forgetting, or a replay, merges like anything else."""
    assert encode(union(fold(a), fold(b))) == encode(fold([*a, *b]))


@given(histories, POLICIES)
def test_the_outcome_depends_on_the_set_alone(history: list[Told], policy: Policy) -> None:
    """Nothing else is in a lifecycle: what comes back from its bytes derives the same."""
    lifecycle = fold(history)
    again = decode_lifecycle(encode(lifecycle))
    assert again == lifecycle
    assert encode(summarise(again, policy)) == encode(summarise(lifecycle, policy))


@given(histories, facts)
def test_a_fact_never_lowers_what_is_known(history: list[Told], fact: Fact) -> None:
    """But for what holds only while nothing is known, and for what becomes foreign."""
    before = fold(history)
    if before.send is not None and before.send.account is not None:
        return
    after = with_fact(before, fact)
    old, new = summarise(before, Policy()), summarise(after, Policy())
    assert old is not None
    assert new is not None
    by_silence = not before.facts and old.outcome in {"expired", "unanswered", "untracked"}
    if not by_silence:
        assert PRECEDENCE[new.outcome] <= PRECEDENCE[old.outcome]
        assert new.is_final or not old.is_final


@given(histories_with_erase, erases, histories_with_erase)
def test_an_erase_beats_all(before: list[Told], erase: Told, after: list[Told]) -> None:
    erased = fold([*before, erase, *after])
    assert set(decode_keys(erased)) == {"message_id", "erased", "erased_at"}
    assert summarise(erased, Policy()) is None
    assert next_deadline(erased, Policy()) is None


def decode_keys(lifecycle: Lifecycle) -> list[str]:
    return list(json.loads(encode(lifecycle)))


@given(histories_with_erase, POLICIES)
def test_everything_is_total_and_says_what_it_may(history: list[Told], policy: Policy) -> None:
    lifecycle = fold(history)
    summary = summarise(lifecycle, policy)
    contribution(summary)
    next_deadline(lifecycle, policy, GAPS)
    if summary is None:
        return
    assert summary.is_final == (summary.outcome in FINAL)
    assert list(summary.flags) == sorted(set(summary.flags))
    for metric in LATENCIES:
        took = getattr(summary, f"{metric.name}_ms")
        assert took is None or took >= 0
    assert (summary.cost_units is None) == (summary.cost_source is None)


@given(histories, POLICIES)
def test_deadlines_come_to_an_end(history: list[Told], policy: Policy) -> None:
    """Each fires once: at most three, one per kind, and never twice the same."""
    lifecycle = fold(history)
    fired = []
    while (deadline := next_deadline(lifecycle, policy, GAPS)) is not None:
        lifecycle = fire(lifecycle, deadline)
        fired.append(deadline.kind)
        assert deadline.kind in {overdue.kind for overdue in lifecycle.overdue}
    assert len(fired) == len(set(fired)) <= 3


@given(st.lists(histories_with_erase, min_size=1, max_size=5), POLICIES)
def test_entered_minus_withdrawn_is_the_sum_over_lifecycles(
    lives: list[list[Told]], policy: Policy
) -> None:
    totals = Totals(limit=10_000)
    expected: dict[tuple[object, str], int] = {}
    observed = corrected = 0
    for history in lives:
        lifecycle, old = empty("m"), NOTHING
        for event in history:
            lifecycle = add(lifecycle, event)
            new = contribution(summarise(lifecycle, policy))
            totals.move(old, new)
            for before, after in zip(old.latencies_ms, new.latencies_ms, strict=True):
                observed += before is None and after is not None
                corrected += before is not None and after not in (None, before)
            old = new
        for key, amount in old.amounts.items():
            expected[key] = expected.get(key, 0) + amount
    found: dict[tuple[object, str], int] = {}
    counted = 0
    for labels, record in totals.changed():
        assert all(value >= 0 for value in record.counters.values())
        for metric in CATALOGUE:
            difference = record.counters.get(metric.name, 0)
            difference -= record.counters.get(withdrawn(metric.name), 0)
            if metric.withdrawable and difference:
                found[labels, metric.name] = difference
        counted += sum(sum(h.buckets) for h in record.histograms.values())
        corrected -= record.counters.get("latency_corrections", 0)
    assert found == {key: amount for key, amount in expected.items() if amount}
    assert (counted, corrected) == (observed, 0)
