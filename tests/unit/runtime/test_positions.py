"""Which saved positions still mean something."""

from __future__ import annotations

import pytest

from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.positions import Bounds, Gap, Reason, Saved, gap_of, gaps_of, refuse

P0, P1 = Partition("sendtrace.statuses", 0), Partition("sendtrace.statuses", 1)
LOG = Bounds(3, 9)


@pytest.mark.parametrize(
    ("position", "reason"), [(2, "deleted"), (3, None), (7, None), (9, None), (10, "cut")]
)
def test_a_position_must_lie_within_the_log(position: int, reason: Reason | None) -> None:
    found = gap_of(P0, Saved(position), LOG)
    assert (found and found.reason) == reason


@pytest.mark.parametrize("position", [0, 5, 20])
def test_of_another_topic_no_position_counts(position: int) -> None:
    found = gap_of(P0, Saved(position, "a"), LOG, "b")
    assert found == Gap(P0, "remade", position, LOG)


@pytest.mark.parametrize(("saved", "found"), [("a", "a"), (None, "a"), ("a", None), (None, None)])
def test_an_id_that_is_not_known_says_nothing(saved: str | None, found: str | None) -> None:
    assert gap_of(P0, Saved(5, saved), LOG, found) is None


def test_what_nobody_will_read_is_counted_as_far_as_it_is_known() -> None:
    assert Gap(P0, "deleted", 1, LOG).records == 2
    assert Gap(P0, "remade", 100, LOG).records == 3
    assert Gap(P0, "cut", 100, LOG).records == 3


def test_all_gaps_are_found_in_order() -> None:
    saved = {P1: Saved(2), P0: Saved(5, "a")}
    found = gaps_of(saved, {P0: LOG, P1: LOG}, {P0.topic: "b"})
    assert [(gap.partition, gap.reason, gap.next) for gap in found] == [
        (P0, "remade", 3),
        (P1, "deleted", 3),
    ]


@pytest.mark.parametrize(
    ("reason", "saved", "said"),
    [
        ("deleted", 1, "is 1, but it begins at 3: 2 offsets were deleted unread"),
        ("remade", 5, "is 5, but the topic was made anew, and its offsets are of other records"),
        ("cut", 12, "is 12, but it ends at 9: the log was cut, or the topic made anew"),
    ],
)
def test_the_sentence_says_where_what_and_what_to_do(reason: Reason, saved: int, said: str) -> None:
    assert str(refuse(Gap(P1, reason, saved, LOG))) == (
        f"sendtrace.statuses-1: the next offset to read {said}. Restore the topic, or start once "
        "with --accept-gap to go on at offset 3"
    )
