"""A plant is found by what it does, and not by anything that is wrong."""

from __future__ import annotations

import pytest

from sendtrace.verify.found import Difference, Report

from chaos.accounting import Sums
from chaos.driver import Done, Outcome
from chaos.faults import Killed
from chaos.planted import is_found

NOTHING = Sums(9, 9, 9, (), (), ())
LOST = Sums(9, 9, 9, ("a",), (), ())
RECOUNTED = Sums(9, 9, 9, (), (), (), recounted=1)


def outcome(sums: Sums, where: str = "", *, seen: bool = True) -> Outcome:
    differences = [Difference(where, "m", "it is not there")] if where else []
    done = [Done(Killed(("joiner",)), seen, 1, 1.0, 0, ())]
    return Outcome(7, 1, done, report=Report(differences=differences), sums=sums)


@pytest.mark.parametrize(
    ("name", "made", "found"),
    [
        ("early-answer", outcome(LOST), True),
        ("early-answer", outcome(RECOUNTED, "lifecycles"), False),
        ("positions-outside", outcome(RECOUNTED), True),
        ("positions-outside", outcome(NOTHING, "warehouse"), False),
        ("positions-outside", outcome(RECOUNTED, seen=False), False),
        ("loader-from-group", outcome(NOTHING, "warehouse"), True),
        ("loader-from-group", outcome(NOTHING), False),
    ],
)
def test_a_plant_is_found_by_what_it_does(name: str, made: Outcome, found: bool) -> None:
    assert is_found(name, made) is found
