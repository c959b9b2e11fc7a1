"""Which faults fall, in which order. Pure: the same seed gives the same plan.

The short form has each kind once. The long form goes on in rounds, each in an order of its own:
every process fault in every round, every other one in every third of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from sendtrace.runtime.settings import Settings

from chaos.faults import (
    CUT,
    CUT_HALF_WAY,
    DELAYED,
    STALLED,
    Away,
    BadWeather,
    Fault,
    Killed,
    KilledDuringScrape,
    KilledInWeather,
    OffsetsDeleted,
    OffsetsMoved,
    RollingRestart,
    StateCorrupted,
    StateDropped,
    Suspended,
    SuspendedInWeather,
    TakenOver,
)
from chaos.processes import PIPELINE
from chaos.stack import POSTGRES, broker

LONGEST_PAUSE_SECONDS = 1.0
# So that its counts are at least 10 and 3.
ROUNDS = 10
ENVIRONMENT_EVERY = 3


@dataclass(frozen=True)
class Step:
    """A fault, and how long the stack is left alone before it."""

    pause_seconds: float
    fault: Fault


def short(seed: int, settings: Settings) -> list[Step]:
    """Each part killed, the joiner suspended past all timeouts, connections cut, a state lost."""
    faults: list[Fault] = [
        *(Killed((part,)) for part in (*PIPELINE, broker(1))),
        Away((POSTGRES,)),
        KilledInWeather("joiner", broker(1), DELAYED, 1.5),
        KilledInWeather("edge", broker(1), STALLED, 1.5),
        Suspended.past_timeouts("joiner", settings),
        BadWeather(broker(1), CUT, 1.0),
        BadWeather("edge", CUT_HALF_WAY, 2.0),
        BadWeather(POSTGRES, CUT, 1.0),
        StateDropped("rollup"),
    ]
    return _shuffled(Random(seed), faults)


def long(seed: int, settings: Settings, brokers: int) -> Iterator[Step]:
    """All rounds; whoever drives may stop between two of them."""
    random = Random(seed)
    for number in range(ROUNDS):
        faults = _process_faults(random, brokers)
        if number % ENVIRONMENT_EVERY == 1:
            faults += _environment_faults(random, settings, brokers)
        yield from _shuffled(random, faults)


def _process_faults(random: Random, brokers: int) -> list[Fault]:
    """One of each process, some at once, and in the middle of what they do."""
    link = broker(random.randint(1, brokers))
    return [
        *(Killed((part,)) for part in (*PIPELINE, POSTGRES)),
        Killed((broker(random.randint(1, brokers)),)),
        Killed(PIPELINE),
        Killed((*PIPELINE, POSTGRES)),
        *(KilledInWeather(part, link, DELAYED, 1.0) for part in ("joiner", "rollup", "loader")),
        KilledInWeather("loader", POSTGRES, DELAYED, 1.0),
        KilledInWeather("edge", link, STALLED, 1.0),
        KilledDuringScrape(),
        *(StateDropped(part) for part in ("joiner", "rollup")),
        *(Suspended(part, 2.0) for part in ("edge", "joiner", "loader")),
    ]


def _environment_faults(random: Random, settings: Settings, brokers: int) -> list[Fault]:
    link = broker(random.randint(1, brokers))
    parts = tuple(broker(number) for number in range(1, brokers + 1))
    faults: list[Fault] = [
        *(Suspended.past_timeouts(part, settings) for part in ("joiner", "rollup")),
        *(TakenOver(part, link) for part in ("joiner", "rollup")),
        SuspendedInWeather("joiner", link, settings.transaction_timeout_ms / 1000 + 2.0),
        Suspended(broker(random.randint(1, brokers)), 5.0),
        Suspended(POSTGRES, 5.0),
        Away((POSTGRES,)),
        *(
            BadWeather(name, weather, 3.0)
            for name in (link, POSTGRES, "edge")
            for weather in (CUT, CUT_HALF_WAY, STALLED, DELAYED)
        ),
        BadWeather("edge_internal", CUT, 3.0),
        *(StateCorrupted(part) for part in ("joiner", "rollup")),
        *(OffsetsMoved(part) for part in ("joiner", "rollup")),
        *(OffsetsDeleted(part) for part in ("joiner", "rollup")),
        RollingRestart(PIPELINE),
        RollingRestart(parts),
    ]
    if brokers > 1:
        faults.append(Killed(tuple(sorted(random.sample(parts, 2)))))
    return faults


def _shuffled(random: Random, faults: Sequence[Fault]) -> list[Step]:
    order = random.sample(list(faults), len(faults))
    return [Step(random.uniform(0.0, LONGEST_PAUSE_SECONDS), fault) for fault in order]
