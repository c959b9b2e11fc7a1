"""The proof of the proof: a fault planted in the program is found by the faults that show it.

One in the join and one in the loader: `make chaos-plants` has all seven, in some ten minutes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chaos.planted import is_found, run_planted

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
    # It is the plant that was found, not a fault that did not heal.
    assert is_found(name, outcome), (outcome.evidence, outcome.done)
