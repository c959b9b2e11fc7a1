"""Which faults fall, in which order, and which at once. Pure: the same seed gives the same plan.

The short form has each kind once, alone. The long form goes on in rounds, each in an order of its
own: every process fault in every round, every environment fault in ENVIRONMENT of them. In the
first round each falls alone; after that those that leave each other what they need fall at once, up
to AT_ONCE of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from msgspec.structs import replace

from schemas.topics import INBOUND, RECEIPTS, SENDS, STATUSES
from sendtrace.runtime.settings import Settings

from chaos.faults import (
    CUT,
    CUT_HALF_WAY,
    DELAYED,
    STALLED,
    Away,
    BadWeather,
    DiskFull,
    Fault,
    Killed,
    KilledDuringScrape,
    KilledInWeather,
    MembersAdded,
    OffsetsDeleted,
    OffsetsMoved,
    OneAwayThenTwo,
    RollingRestart,
    StateCorrupted,
    StateDropped,
    StateOutdated,
    Suspended,
    SuspendedInWeather,
    TakenOver,
)
from chaos.processes import PIPELINE
from chaos.proxy import Weather
from chaos.stack import DATA, POSTGRES, SPARES, broker
from chaos.strays import OtherPartitioner, Oversize, Poison

LONGEST_PAUSE_SECONDS = 1.0
# So that its counts are at least 10 and 3.
ROUNDS = 10
ENVIRONMENT = (1, 4, 7)
AT_ONCE = 7
# Of the simulator's time, which is a hundred times as fast (driver.py): two hours.
EDGE_AWAY_SECONDS = 72.0
DISK_FULL_SECONDS = 5.0
# Large enough for 24 stores, and for every message of the run.
DISK_BYTES = {DATA: 768 * 2**20, POSTGRES: 768 * 2**20}


@dataclass(frozen=True)
class Step:
    """Faults at once, and how long the stack is left alone before them."""

    pause_seconds: float
    faults: tuple[Fault, ...]


def wide(settings: Settings) -> Settings:
    """The long form's: partitions for four joiners, and commits as seldom as two cores need."""
    return replace(settings, partitions=12, transaction_interval_ms=200)


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
    return list(_in_order(Random(seed), [(fault,) for fault in faults]))


def long(seed: int, settings: Settings, brokers: int) -> Iterator[Step]:
    """All rounds; whoever drives may stop between two steps. Settings are those of `wide`."""
    random = Random(seed)
    for number in range(ROUNDS):
        faults = _process_faults(random, brokers)
        groups = [(fault,) for fault in faults] if number == 0 else _at_once(random, faults)
        if number in ENVIRONMENT:
            groups += _at_once(random, _environment_faults(random, settings, brokers, number))
        yield from _in_order(random, groups)


def _process_faults(random: Random, brokers: int) -> list[Fault]:
    """Each process killed, alone and with all others; what it was suspended or its state gone."""
    return [
        *(Killed((part,)) for part in (*PIPELINE, POSTGRES)),
        Killed((broker(random.randint(1, brokers)),)),
        Killed((*PIPELINE, POSTGRES)),
        *(StateDropped(part) for part in ("joiner", "rollup")),
        *(Suspended(part, 2.0) for part in ("edge", "joiner", "rollup", "loader")),
        KilledDuringScrape(),
    ]


def _environment_faults(
    random: Random, settings: Settings, brokers: int, number: int
) -> list[Fault]:
    parts = tuple(broker(each) for each in range(1, brokers + 1))
    link = random.choice(parts)
    faults: list[Fault] = [
        *(
            KilledInWeather(part, parts[at % brokers], DELAYED, 1.0)
            for at, part in enumerate(("joiner", "rollup", "loader"))
        ),
        KilledInWeather("loader", POSTGRES, DELAYED, 1.0),
        KilledInWeather("edge", link, STALLED, 1.0),
        *(Suspended.past_timeouts(part, settings) for part in ("joiner", "rollup")),
        TakenOver("joiner", parts[0]),
        TakenOver("rollup", parts[-1]),
        SuspendedInWeather("joiner", link, settings.transaction_timeout_ms / 1000 + 2.0),
        Suspended(random.choice(parts), 5.0),
        Suspended(POSTGRES, 5.0),
        Away((POSTGRES,), 5.0),
        Away(("edge",), EDGE_AWAY_SECONDS, "two hours of the simulator's time"),
        *(
            BadWeather(name, weather, 2.0)
            for name in (random.choice(parts), POSTGRES, "edge")
            for weather in (CUT, CUT_HALF_WAY, STALLED, DELAYED)
        ),
        BadWeather("edge_internal", CUT, 2.0),
        *(StateCorrupted(part) for part in ("joiner", "rollup")),
        *(StateOutdated(part) for part in ("joiner", "rollup")),
        *(OffsetsMoved(part) for part in ("joiner", "rollup")),
        *(OffsetsDeleted(part) for part in ("joiner", "rollup")),
        *(DiskFull(part, DISK_FULL_SECONDS) for part in ("joiner", POSTGRES)),
        *(Poison(topic, number) for topic in (SENDS, STATUSES, RECEIPTS, INBOUND)),
        *(Oversize(topic, number) for topic in (SENDS, STATUSES, RECEIPTS, INBOUND)),
        OtherPartitioner(settings, number),
        MembersAdded("joiner", SPARES, 2.0),
        RollingRestart(PIPELINE),
        RollingRestart(parts),
    ]
    if brokers > 1:
        two = random.sample(parts, 2)
        faults += [Killed(tuple(sorted(two))), OneAwayThenTwo(*random.sample(parts, 2), 5.0)]
    return faults


def _at_once(random: Random, faults: Sequence[Fault]) -> list[tuple[Fault, ...]]:
    """Each into the first group that has room and leaves it what it needs."""
    groups: list[list[Fault]] = []
    for fault in random.sample(list(faults), len(faults)):
        for group in groups:
            if len(group) < AT_ONCE and all(needs(fault).allows(needs(each)) for each in group):
                group.append(fault)
                break
        else:
            groups.append([fault])
    return [tuple(group) for group in groups]


@dataclass(frozen=True)
class Needs:
    """``takes``: what a fault is done to. ``uses``: what must work for it to be seen."""

    takes: frozenset[str]
    uses: frozenset[str] = frozenset()

    def allows(self, other: Needs) -> bool:
        return not (self.takes & (other.takes | other.uses) or other.takes & self.uses)


KAFKA = "kafka"
LINKS = frozenset({"link kafka-1", "link kafka-2", "link kafka-3", "link postgres"})
# The way of a message; of the rollup and the exporter nothing depends.
WAY = frozenset({"edge", KAFKA, "joiner", "loader", POSTGRES})


def needs(fault: Fault) -> Needs:
    match fault:
        case Killed((part,)) | Suspended(part=part) | Away((part,)):
            return Needs(frozenset({_any_broker(part)}))
        case StateDropped(part) | StateOutdated(part):
            return Needs(frozenset({part}))
        case KilledDuringScrape(part):
            return Needs(frozenset({part}))
        case KilledInWeather(part=part, link=link) | SuspendedInWeather(part=part, link=link):
            return Needs(frozenset({part, f"link {link}"}), frozenset({_any_broker(link)}))
        case OffsetsMoved(part) | OffsetsDeleted(part) | StateCorrupted(part):
            return Needs(frozenset({part}), frozenset({KAFKA}) | LINKS)
        case Poison() | Oversize() | OtherPartitioner():
            return Needs(frozenset(), WAY | LINKS)
        case BadWeather(link, weather):
            return Needs(frozenset({f"link {link}"}), _traffic(link, weather))
        case DiskFull(part):
            taken = {POSTGRES, "loader"} if part == POSTGRES else {"joiner", "rollup"}
            # Without traffic nobody writes while there is no room, and ends of it only afterwards.
            return Needs(frozenset(taken), LINKS | {"edge", "link edge", KAFKA})
        case MembersAdded(part):
            return Needs(frozenset({part}), frozenset({"edge", KAFKA}))
    return Needs(WAY | LINKS | {"rollup", "exporter"}, frozenset({"link edge"}))


def _traffic(link: str, weather: Weather) -> frozenset[str]:
    """What must work for bytes to pass a link, where it is these that show the weather."""
    if link != POSTGRES:
        return frozenset({"edge", KAFKA})
    if weather == CUT:
        return frozenset({POSTGRES, "loader"})
    return WAY | (LINKS - {f"link {link}"})


def _any_broker(name: str) -> str:
    """A broker is not taken while another is: with two away nothing is seen."""
    return KAFKA if name.startswith(KAFKA) else name


def _in_order(random: Random, groups: Sequence[tuple[Fault, ...]]) -> Iterator[Step]:
    for faults in random.sample(list(groups), len(groups)):
        yield Step(random.uniform(0.0, LONGEST_PAUSE_SECONDS), faults)
