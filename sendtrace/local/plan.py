"""What `sendtrace up` is going to start, decided before anything is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sendtrace.local.brokers import Broker, bootstrap, broker_name, place
from sendtrace.local.secrets import ACCOUNTS_FILE, FOLDER, SENDS_TOKEN_FILE
from sendtrace.runtime.settings import PREFIX, Settings, SettingsError, to_environment

POSTGRES_PORT = 15432
# What `--fresh` removes: what the stack made, never the folder itself, which may be anyone's.
MADE_BY_US = (
    "kafka", "kafka-1", "kafka-2", "kafka-3", "postgres", "state", "logs", "ledger.jsonl",
    "requests.jsonl", FOLDER,
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The command line of `up`."""

    rate: float | None = 20.0  # None: no simulator
    simulate_seconds: float | None = None  # None: as long as the stack
    brokers: int = 1  # 1 or 3
    scenario: str | None = None  # None: the simulator's default
    accept_gap: bool = False


@dataclass(frozen=True)
class ChildPlan:
    """One process of ours: its command, and where it tells that it is ready."""

    name: str
    arguments: tuple[str, ...]
    port: int = 0  # of /readyz and /metrics; 0: it has none
    may_finish: bool = False
    until_up: tuple[str, ...] = ()  # further arguments, until the whole stack has been up


@dataclass(frozen=True)
class StackPlan:
    """Everything `up` needs to know. No brokers, a port of None: somebody else's are used."""

    settings: Settings
    data_dir: Path
    brokers: tuple[Broker, ...]
    postgres_port: int | None
    processes: tuple[ChildPlan, ...]
    simulator: ChildPlan | None
    makes_secrets: bool  # False: the environment names an accounts file
    ports: Mapping[str, int] = field(default_factory=dict)  # that must be free, by name

    @property
    def stop_order(self) -> tuple[str, ...]:
        """Sources first, so that what is under way can flow out."""
        return ("simulator", "edge", "joiner", "rollup", "loader", "exporter")


def make_plan(settings: Settings, environment: Mapping[str, str], options: Options) -> StackPlan:
    """Kafka and PostgreSQL are started here, and secrets made, unless the environment names
    others."""
    base = settings.port_base
    # A child has another working directory.
    data_dir = Path(settings.data_dir).absolute()
    settings = msgspec.structs.replace(settings, data_dir=str(data_dir))
    own_secrets = f"{PREFIX}ACCOUNTS_FILE" not in environment
    if own_secrets:
        settings = _with_secrets(settings, environment, data_dir / FOLDER)
    own_kafka = f"{PREFIX}KAFKA_BOOTSTRAP" not in environment
    own_postgres = f"{PREFIX}POSTGRES_DSN" not in environment
    brokers = place(data_dir, options.brokers, base) if own_kafka else ()
    if own_kafka:
        settings = msgspec.structs.replace(settings, kafka_bootstrap=bootstrap(brokers))
    if own_postgres:
        settings = msgspec.structs.replace(
            settings,
            postgres_dsn=f"postgresql://sendtrace@127.0.0.1:{POSTGRES_PORT + base}/sendtrace",
        )
    if f"{PREFIX}EDGE_DRAIN_SECONDS" not in environment:
        # There is no load balancer here that would have to notice first.
        settings = msgspec.structs.replace(settings, edge_drain_seconds=0.0)
    processes = _processes(settings, options.accept_gap)
    ports = _ports(settings, brokers, own_postgres)
    return StackPlan(
        settings=settings,
        data_dir=data_dir,
        brokers=brokers,
        postgres_port=POSTGRES_PORT + base if own_postgres else None,
        processes=processes,
        simulator=_simulator(options),
        makes_secrets=own_secrets,
        ports=ports,
    )


def _with_secrets(settings: Settings, environment: Mapping[str, str], folder: Path) -> Settings:
    settings = msgspec.structs.replace(settings, accounts_file=str(folder / ACCOUNTS_FILE))
    if f"{PREFIX}SENDS_TOKEN_FILE" in environment:
        return settings
    return msgspec.structs.replace(settings, sends_token_file=str(folder / SENDS_TOKEN_FILE))


def child_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What a child is given: the rest of our environment, and exactly these settings."""
    rest = {name: value for name, value in environment.items() if not name.startswith(PREFIX)}
    return rest | to_environment(settings)


def _ports(settings: Settings, brokers: tuple[Broker, ...], own_postgres: bool) -> dict[str, int]:
    ports = {"edge": settings.port("edge"), "edge's internal port": settings.port("edge_internal")}
    ports |= {name: settings.port(name) for name in ("joiner", "rollup", "loader", "exporter")}
    if 0 in ports.values():
        raise SettingsError("`sendtrace up` needs fixed ports: set no SENDTRACE_*_PORT to 0")
    for broker in brokers:
        name = broker_name(broker, brokers)
        ports |= {name: broker.port, f"{name}'s controller": broker.controller_port}
    if own_postgres:
        ports["PostgreSQL"] = POSTGRES_PORT + settings.port_base
    return ports


def _processes(settings: Settings, accept_gap: bool) -> tuple[ChildPlan, ...]:
    # A gap is accepted once: who is started again later must not go on from the next one.
    gap = ("--accept-gap",) if accept_gap else ()
    return (
        ChildPlan("edge", ("edge",), settings.port("edge_internal")),
        ChildPlan("joiner", ("joiner",), settings.port("joiner"), until_up=gap),
        ChildPlan("rollup", ("rollup",), settings.port("rollup"), until_up=gap),
        ChildPlan("loader", ("loader",), settings.port("loader"), until_up=gap),
        ChildPlan("exporter", ("exporter",), settings.port("exporter")),
    )


def _simulator(options: Options) -> ChildPlan | None:
    if options.rate is None:
        return None
    arguments = ["simulate", "--rate", str(options.rate)]
    if options.simulate_seconds is not None:
        arguments += ["--for", f"{options.simulate_seconds}s"]
    if options.scenario is not None:
        arguments += ["--scenario", options.scenario]
    return ChildPlan("simulator", tuple(arguments), may_finish=True)
