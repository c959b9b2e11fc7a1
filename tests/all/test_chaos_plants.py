"""The proof of the proof: a fault planted in the program is found by the faults that show it.

One in the join and one in the loader: `make chaos-plants` has all seven, in some ten minutes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chaos.planted import run_planted

PLANTED = ("loader-from-group", "store-before-commit")
SEED = 3
RATE = 30
TESTS = Path(__file__).parents[1]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PLANTED)
async def test_a_plant_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The planted process imports `chaos.plants`.
    path = os.pathsep.join([str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    monkeypatch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
    outcome = await run_planted(name, SEED, RATE)
    assert not outcome.is_clean
    # It is the plant that was found, not a fault that did not heal.
    assert outcome.done[-1].seen
