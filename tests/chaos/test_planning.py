"""The plan is the seed's, and holds what the proof promises."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.topics import STATUSES

from chaos.driver import SETTINGS
from chaos.faults import (
    CUT,
    DELAYED,
    STALLED,
    BadWeather,
    DiskFull,
    Fault,
    Killed,
    RollingRestart,
    StateDropped,
    Suspended,
)
from chaos.observing import kills
from chaos.planning import AT_ONCE, long, needs, short, wide
from chaos.processes import PIPELINE
from chaos.stack import POSTGRES, broker
from chaos.strays import Oversize, Poison


def test_a_seed_is_a_plan() -> None:
    assert short(1, SETTINGS) == short(1, SETTINGS) != short(2, SETTINGS)
    assert list(long(1, SETTINGS, 3)) == list(long(1, SETTINGS, 3)) != list(long(2, SETTINGS, 3))


def test_the_short_form_kills_every_part() -> None:
    faults = [fault for step in short(1, SETTINGS) for fault in step.faults]
    assert {part for fault in faults for part in kills(fault)} == {*PIPELINE, "kafka-1"}
    assert f"{POSTGRES} away" in {fault.name for fault in faults}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("brokers", [1, 3])
def test_the_long_form_reaches_its_counts(brokers: int, seed: int) -> None:
    faults = [fault for step in long(seed, wide(SETTINGS), brokers) for fault in step.faults]
    killed = Counter(part for fault in faults for part in kills(fault))
    assert killed.total() >= 200
    kinds = Counter(fault.kind for fault in faults)
    assert min(kinds.values()) >= 3
    for part in (*PIPELINE, POSTGRES, "kafka"):
        assert kinds[f"{part} killed"] >= 10
    assert min(n for kind, n in kinds.items() if kind.endswith(("dropped", "suspended"))) >= 3
    assert min(n for kind, n in kinds.items() if kind.endswith("dropped")) >= 10


def test_each_part_is_killed_alone_and_with_others() -> None:
    steps = list(long(1, wide(SETTINGS), 3))
    alone = {step.faults[0].kind for step in steps if len(step.faults) == 1}
    assert alone >= {f"{part} killed" for part in (*PIPELINE, POSTGRES, "kafka")}
    assert max(len(step.faults) for step in steps) == AT_ONCE


KILLED_JOINER = Killed(("joiner",))


@pytest.mark.parametrize(
    ("fault", "other", "is_allowed"),
    [
        (KILLED_JOINER, Killed(("rollup",)), True),
        (KILLED_JOINER, StateDropped("joiner"), False),
        (KILLED_JOINER, Killed((broker(1),)), True),
        (Killed((broker(1),)), Suspended(broker(2)), False),
        (Poison(STATUSES), Oversize(STATUSES), True),
        (Poison(STATUSES), KILLED_JOINER, False),
        (BadWeather(POSTGRES, CUT), Killed(("exporter",)), True),
        (BadWeather(POSTGRES, CUT), Killed(("edge",)), True),
        (BadWeather(POSTGRES, CUT), Killed(("loader",)), False),
        (BadWeather(POSTGRES, DELAYED), Killed(("edge",)), False),
        (BadWeather(POSTGRES, DELAYED), BadWeather(broker(1), CUT), False),
        (DiskFull("joiner"), BadWeather("edge", STALLED), False),
        (DiskFull("joiner"), Killed((POSTGRES,)), True),
        (RollingRestart(PIPELINE), Killed(("exporter",)), False),
    ],
)
def test_what_a_fault_needs_no_other_takes(fault: Fault, other: Fault, is_allowed: bool) -> None:
    assert needs(fault).allows(needs(other)) is is_allowed
    assert needs(other).allows(needs(fault)) is is_allowed
