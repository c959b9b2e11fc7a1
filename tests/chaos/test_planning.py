"""The plan is the seed's, and holds what the proof promises."""

from __future__ import annotations

from collections import Counter

import pytest

from chaos.driver import SETTINGS
from chaos.observing import kills
from chaos.planning import long, short
from chaos.processes import PIPELINE
from chaos.stack import POSTGRES


def test_a_seed_is_a_plan() -> None:
    assert short(1, SETTINGS) == short(1, SETTINGS) != short(2, SETTINGS)
    assert list(long(1, SETTINGS, 3)) == list(long(1, SETTINGS, 3)) != list(long(2, SETTINGS, 3))


def test_the_short_form_kills_every_part() -> None:
    killed = {part for step in short(1, SETTINGS) for part in kills(step.fault)}
    assert killed == {*PIPELINE, "kafka-1"}
    assert f"{POSTGRES} away" in {step.fault.name for step in short(1, SETTINGS)}


@pytest.mark.parametrize("brokers", [1, 3])
def test_the_long_form_reaches_its_counts(brokers: int) -> None:
    steps = list(long(1, SETTINGS, brokers))
    killed = Counter(part for step in steps for part in kills(step.fault))
    assert killed.total() >= 200
    assert min(killed[part] for part in (*PIPELINE, POSTGRES)) >= 10
    assert sum(killed[part] for part in killed if part.startswith("kafka")) >= 10
    kinds = Counter(step.fault.kind for step in steps)
    assert min(kinds.values()) >= 3
    assert min(n for kind, n in kinds.items() if kind.endswith("dropped")) >= 10
