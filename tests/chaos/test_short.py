"""The short form of `make chaos`: every part killed under traffic, and nothing lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.driver import SETTINGS, Driver
from chaos.planning import short
from chaos.stack import running_stack

SEED = 7
RATE = 30.0
ARGUMENTS = f"--short --seed {SEED} --rate {RATE}"


@pytest.mark.timeout(600)
async def test_nothing_is_lost_or_doubled_when_every_part_fails(tmp_path: Path) -> None:
    print(f"repeat with: make chaos ARGS='{ARGUMENTS}'")
    async with running_stack(tmp_path, SETTINGS) as stack:
        outcome = await Driver(stack, tmp_path, SEED).run(short(SEED, SETTINGS), RATE)
    assert outcome.report.differences == []
    assert outcome.sums.is_clean, outcome.sums
    assert [done.fault.name for done in outcome.done if not done.seen] == []
    assert outcome.complete > 1_000
    # What waits for its retry when the traffic ends: on a busy machine that is more.
    assert outcome.cut_short < outcome.complete / 3
