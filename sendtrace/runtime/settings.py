"""Settings: environment variables ``SENDTRACE_*`` into one frozen struct, by a pure function.

A variable that no setting has stops the start and names its nearest match.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from sendtrace.runtime.deadlines import parse_deadlines

Seconds = Annotated[float, Meta(gt=0, le=24 * 3600)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]

PREFIX = "SENDTRACE_"


class SettingsError(Exception):
    """A setting is unknown or has no usable value. The message says what to do (exit code 3)."""


class Settings(Struct, frozen=True, kw_only=True):
    """All settings. Each default's reason stands above it; units are in the names."""

    # The local stack's addresses, so that `sendtrace edge` works beside `sendtrace up`.
    kafka_bootstrap: str = "127.0.0.1:19092"
    postgres_dsn: str = "postgresql://sendtrace@127.0.0.1:15432/sendtrace"
    # Two systems on one cluster must be able to live side by side.
    topic_prefix: str = "sendtrace."
    # Twelve divides well among 1, 2, 3, 4, 6 and 12 joiners. For life: see schemas/topics.py.
    partitions: int = 12
    # 0 asks for 3, or for the number of brokers when there are fewer (a warning says so).
    replication_factor: int = 0
    # State of the joiner, and of the local stack. Out of git.
    data_dir: str = ".sendtrace"
    # Loopback until webhooks are verified: nobody else may forge one.
    bind_address: str = "127.0.0.1"
    # Whose webhooks the edge takes, how each is verified, and for the joiner the parents and
    # currency of each (docs/edge.md). Empty: nobody is verified, and the edge listens on loopback
    # only.
    accounts_file: str = ""
    # The bearer token of POST /sends. Empty: only from this host.
    sends_token_file: str = ""
    # Added to every port, so that two stacks fit on one machine.
    port_base: int = 0
    edge_port: int = 8080
    edge_internal_port: int = 8081
    joiner_port: int = 8083
    rollup_port: int = 8086
    exporter_port: int = 8084
    loader_port: int = 8085
    # Vonage gives up after 15 s: an answer within 3 leaves room for slow networks.
    edge_budget_seconds: float = 3.0
    # The longest SMS webhook is some kilobytes; 1 MiB is far above anything real.
    edge_body_limit_bytes: int = 1_048_576
    # Bound of the memory that waits for Kafka's acknowledgement.
    edge_in_flight_limit_bytes: int = 64 * 1_048_576
    # Vonage sends a request at once. Who takes longer for its headers only holds a connection.
    edge_header_seconds: float = 10.0
    # Longer than a load balancer keeps idle connections (60 s is common): it closes first.
    edge_keepalive_seconds: float = 75.0
    # An idle connection costs some 5 KiB and a file descriptor.
    edge_connection_limit: int = 10_000
    # Time for a load balancer to see that readiness is off before connections are refused.
    edge_drain_seconds: float = 2.0
    # A group commit waits at most this long for company.
    edge_linger_ms: float = 2.0
    # 200 ms costs nothing measurable over longer ones, and output is fresh.
    transaction_interval_ms: int = 200
    # Bound of one transaction: well below the topics' max.message.bytes per batch, many batches.
    transaction_limit_records: int = 20_000
    # A frozen owner's open transaction blocks read_committed readers this long.
    transaction_timeout_ms: int = 15_000
    # Bounds takeover by another joiner after a node is lost.
    session_timeout_ms: int = 15_000
    # Lifecycles kept decoded in memory per task (some 2 KB each); the rest is in RocksDB.
    lifecycle_cache_size: int = 4_000
    # Label sets a partition admits before the rest counts as `other`.
    label_set_limit: int = 10_000
    # The loader writes when either is reached.
    loader_batch_records: int = 10_000
    loader_interval_ms: int = 200
    # Days after which the loader deletes rows; 0 keeps them for ever: nobody loses data unasked.
    # A date that far back must exist: with more the loader could not even ask.
    warehouse_retention_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    # `keep` stores the text of inbound messages in the warehouse. It is content: not by default.
    text: Literal["", "keep"] = ""
    # Divides every duration of policy and simulator, so that days pass in seconds in tests. Not
    # timestamps, budgets, or Kafka's timeouts. Above 10,000 the 25 h of a token would be less than
    # the whole seconds that it is dated in can tell.
    time_scale: Annotated[float, Meta(ge=1, le=10_000)] = 1.0
    # How long to wait for what, per API and channel (sendtrace/runtime/deadlines.py). These are
    # the durations of docs/rules.md 3; an entry left out keeps the one that stands here.
    deadlines: str = "no_first_event=10m, no_send=5m, confirmation=72h, margin=1h"
    # Past a deadline and this the joiner takes silence for silence: clocks differ.
    grace_seconds: Seconds = 60.0
    # Vonage's longest pause between two attempts (docs/vonage.md 7): what was refused may come that
    # much later. Moves deadlines, and marks what an edge accepts after a refusal of its own.
    retry_step_seconds: Seconds = 900.0
    # Hosts (comma between) that are our edge: a send whose `callback` names another is untracked.
    callback_hosts: str = ""
    # Accounts and beginnings of client refs (comma between) that are test traffic: out of rates.
    test_accounts: str = ""
    test_client_ref_prefixes: str = ""
    # Currency of receipts, which carry none, where the accounts file says nothing
    # (docs/vonage.md 2).
    default_currency: Currency = "EUR"
    # A share of quarantined records above this stops a processor: a bad deploy must not drain.
    quarantine_ratio_limit: float = 0.5
    log_level: str = "warning"

    def port(self, name: str) -> int:
        """The port of ``edge``, ``edge_internal``, ``joiner``, ``rollup``, ``exporter`` or
        ``loader``."""
        port: int = getattr(self, f"{name}_port")
        return port + self.port_base if port else 0

    def topic(self, name: str) -> str:
        return self.topic_prefix + name

    def listed(self, name: str) -> tuple[str, ...]:
        """The entries of a setting with commas between them."""
        text: str = getattr(self, name)
        return tuple(entry.strip() for entry in text.split(",") if entry.strip())

    @property
    def state_dir(self) -> Path:
        return Path(self.data_dir) / "state"


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings. Raises SettingsError with a sentence that says what to mend."""
    known = {PREFIX + field.upper(): field for field in Settings.__struct_fields__}
    given: dict[str, str] = {}
    for name, value in environment.items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting{hint} (`sendtrace config` lists all)")
        given[known[name]] = value
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{_setting_in(str(error))}: {error}") from error
    try:
        parse_deadlines(settings.deadlines)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}DEADLINES: {error}") from error
    return settings


def _setting_in(message: str) -> str:
    """``... - at `$.partitions``` to SENDTRACE_PARTITIONS."""
    _, _, path = message.partition("`$.")
    return PREFIX + path.rstrip("`").upper() if path else "settings"


def to_environment(settings: Settings) -> dict[str, str]:
    """The inverse: what a child process must be given to have the same settings."""
    return {
        PREFIX + name.upper(): str(value)
        for name, value in msgspec.structs.asdict(settings).items()
    }
