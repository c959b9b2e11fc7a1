"""`make chaos`: faults on a stack under traffic, and the proof that nothing is lost or doubled.

Exit code 0: clean. 1: something is lost, doubled or different, or a fault was not seen. With
--plant it is the other way round: the plant must be found.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from sendtrace.runtime.settings import Settings

from chaos.driver import SETTINGS, Driver, Outcome
from chaos.planning import DISK_BYTES, Step, long, short, wide
from chaos.planted import is_found, run_planted
from chaos.plants import PLANTS
from chaos.reporting import markdown
from chaos.stack import running_stack

KILLS = 200
# What the stack needs to come up, and `verify` to compare.
RIM_SECONDS = 240.0
PAGE_HEAD = "<!-- Written by `make chaos`, with --page. Shown by docs/reliability.md. -->"


@click.command()
@click.option("--seed", type=int, help="Of faults and traffic. [default: a new one]")
@click.option("--minutes", default=40.0, show_default=True, help="The longest that it may take.")
@click.option("--brokers", default=3, show_default=True, type=click.Choice([1, 3]))
@click.option("--rate", default=20.0, show_default=True, help="Messages a second.")
@click.option("--short", "is_short", is_flag=True, help="Each fault once, as `make test` does.")
@click.option("--plant", type=click.Choice(sorted(PLANTS)), help="A fault of ours to be found.")
@click.option("--all-plants", is_flag=True, help="Each of these in turn.")
@click.option("--page", type=click.Path(path_type=Path), help="Write the table here, too.")
def main(
    seed: int | None,
    minutes: float,
    brokers: int,
    rate: float,
    is_short: bool,
    plant: str | None,
    all_plants: bool,
    page: Path | None,
) -> None:
    """Let faults fall on a whole stack, and say what is missing."""
    chosen = secrets.randbits(31) if seed is None else seed
    print(f"Repeat with: make chaos ARGS='{_arguments(chosen)}'", flush=True)
    plants = sorted(PLANTS) if all_plants else [plant] if plant else []
    if plants:
        found = {name: _is_found(name, chosen, rate) for name in plants}
        print(f"found: {sum(found.values())} of {len(found)} plants", flush=True)
        sys.exit(0 if all(found.values()) else 1)
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"Logs, and the ledger: {directory} (kept unless the run is clean)", flush=True)
    if is_short:
        outcome = asyncio.run(_run(directory, SETTINGS, short(chosen, SETTINGS), 1, chosen, rate))
    else:
        settings = wide(SETTINGS)
        steps = long(chosen, settings, brokers)
        limit_seconds = 60 * minutes - RIM_SECONDS
        outcome = asyncio.run(
            _run(directory, settings, steps, brokers, chosen, rate, DISK_BYTES, limit_seconds)
        )
    text = markdown(outcome)
    print(text)
    if page is not None:
        page.write_text(f"{PAGE_HEAD}\n\n{text}\n")
    missed = [done.fault.name for done in outcome.done if not done.seen]
    if missed:
        print(f"Not observed: {', '.join(missed)}")
    is_enough = is_short or outcome.kills >= KILLS
    if not is_enough:
        print(f"Only {outcome.kills} kills: {KILLS} are promised")
    if not outcome.is_clean or not is_enough or missed:
        sys.exit(1)
    shutil.rmtree(directory)


def _arguments(seed: int) -> str:
    """As they were given, with this seed."""
    given = click.get_current_context().params | {"seed": seed}
    options = {
        "is_short": "--short",
        "minutes": "--minutes",
        "brokers": "--brokers",
        "rate": "--rate",
        "plant": "--plant",
        "all_plants": "--all-plants",
        "seed": "--seed",
    }
    words = []
    for name, option in options.items():
        value = given[name]
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words.append(f"{option} {value}")
    return " ".join(words)


async def _run(
    directory: Path,
    settings: Settings,
    steps: Iterable[Step],
    brokers: int,
    seed: int,
    rate: float,
    disk_bytes: Mapping[str, int] | None = None,
    limit_seconds: float = float("inf"),
) -> Outcome:
    async with running_stack(directory, settings, brokers=brokers, disk_bytes=disk_bytes) as stack:
        return await Driver(stack, directory, seed, _say).run(steps, rate, limit_seconds)


def _is_found(name: str, seed: int, rate: float) -> bool:
    outcome = asyncio.run(run_planted(name, seed, rate, _say))
    print(markdown(outcome))
    found = is_found(name, outcome)
    told = ", ".join(sorted(outcome.evidence)) or "nothing"
    print(f"{name}: {'found' if found else 'NOT FOUND'} ({told})", flush=True)
    return found


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
