"""Runs a stack with one plant in it, and lets only those faults fall that show it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from msgspec.structs import replace

from chaos.driver import SETTINGS, Driver, Outcome, Say
from chaos.planning import Step
from chaos.plants import PLANTS
from chaos.stack import running_stack

# What a plant did does not heal, so `verify` need not wait for it.
VERIFY_SECONDS = 10.0
PAUSE_SECONDS = 0.5


async def run_planted(name: str, seed: int, rate: float, say: Say = print) -> Outcome:
    """The outcome must show it: see `is_found`."""
    plant = PLANTS[name]
    settings = replace(SETTINGS, transaction_timeout_ms=plant.transaction_timeout_ms)
    modules = {plant.part: ("chaos.plants", name)}
    steps = [Step(PAUSE_SECONDS, (fault,)) for fault in plant.faults]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        directory = Path(folder)
        async with running_stack(directory, settings, modules=modules) as stack:
            driver = Driver(stack, directory, seed, say, verify_seconds=VERIFY_SECONDS)
            return await driver.run(steps, rate)


def is_found(name: str, outcome: Outcome) -> bool:
    """By what it does, and by faults that were done."""
    is_done = any(each.seen for each in outcome.done)
    return is_done and not outcome.evidence.isdisjoint(PLANTS[name].shown_by)
