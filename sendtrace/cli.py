"""The ``sendtrace`` command. Each subcommand imports what it runs, so that ``--help`` is quick.

Exit codes: 0 done, 2 wrong usage, 3 configuration, 4 a dependency is away, 5 data differs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import click
import msgspec

from sendtrace.runtime.durations import seconds_of
from sendtrace.runtime.settings import Settings, from_environment

OK, DIFFERS = 0, 5

T = TypeVar("T")


class Duration(click.ParamType[float]):
    """``30s``, ``5m``, ``1h`` or ``500ms`` as seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return seconds_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


_port_base = click.option(
    "--port-base", type=click.IntRange(0, 40_000), help="Of a stack of `up` here: as given to it."
)

_accept_gap = click.option(
    "--accept-gap",
    is_flag=True,
    help="Where records were deleted unread, or a topic was made anew, go on from its beginning.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sendtrace")
def cli() -> None:
    """What became of every message sent through Vonage.

    `sendtrace up` runs everything on this machine: Kafka, PostgreSQL, the pipeline and simulated
    traffic. Settings are environment variables SENDTRACE_*; `sendtrace config` lists them.
    """
    # A command says in one sentence that Kafka is away; its client would say it once more.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())


@cli.command()
@click.option("--rate", default=20.0, show_default=True, help="Simulated messages a second.")
@click.option("--no-simulate", is_flag=True, help="Start without simulated traffic.")
@click.option("--for", "seconds", type=Duration(), help="Stop simulating after this, as 30s.")
@click.option("--fresh", is_flag=True, help="Remove the data of earlier runs first.")
@click.option("--port-base", type=click.IntRange(0, 40_000), help="Added to every port.")
@click.option("--scenario", help="What to simulate, as of `sendtrace simulate`.")
@click.option(
    "--brokers",
    type=click.Choice([1, 3]),
    help="Kafka brokers; 3 replicate. [default: as the data was begun, else 1]",
)
@_accept_gap
def up(
    rate: float,
    no_simulate: bool,
    seconds: float | None,
    fresh: bool,
    port_base: int | None,
    scenario: str | None,
    brokers: int | None,
    accept_gap: bool,
) -> None:
    """Run the whole stack here until Ctrl-C. The data stays for the next time."""
    from sendtrace.local.brokers import choose_count
    from sendtrace.local.plan import Options, make_plan
    from sendtrace.local.stack import up as run_stack
    from sendtrace.runtime.service import stop_on_signals
    from sendtrace.simulator.scenario import chosen

    settings = _with_port_base(port_base)
    options = Options(
        None if no_simulate else _positive(rate),
        seconds,
        brokers=choose_count(Path(settings.data_dir), brokers, fresh),
        scenario=None if scenario is None else chosen(scenario),
        accept_gap=accept_gap,
    )
    plan = make_plan(settings, os.environ, options)

    async def run() -> None:
        await run_stack(plan, fresh, os.environ, stop_on_signals())

    asyncio.run(run())


@cli.command()
def down() -> None:
    """Stop a stack that runs, or was left behind, in this data folder."""
    from sendtrace.local.record import stop_left_behind

    for line in stop_left_behind(Path(_settings().data_dir)):
        click.echo(line)


@cli.command()
def edge() -> None:
    """Take webhooks and sends in (Vonage to Kafka)."""
    from ingest import app

    _run_process(app.run)


@cli.command()
@_accept_gap
def joiner(accept_gap: bool) -> None:
    """Join each send with what came back (Kafka to Kafka, exactly once)."""
    from processors import wiring

    _run_process(partial(wiring.run_joiner, accept_gap=accept_gap))


@cli.command()
@_accept_gap
def rollup(accept_gap: bool) -> None:
    """Put sends of several messages together (Kafka to Kafka, exactly once)."""
    from processors import wiring

    _run_process(partial(wiring.run_rollup, accept_gap=accept_gap))


@cli.command()
def exporter() -> None:
    """Show the totals to Prometheus (Kafka to /metrics)."""
    from sinks import exporter as module

    _run_process(module.run)


@cli.command()
@_accept_gap
def loader(accept_gap: bool) -> None:
    """Keep a row per message (Kafka to PostgreSQL)."""
    from sinks import loader as module

    _run_process(partial(module.run, accept_gap=accept_gap))


@cli.command()
@click.option("--rate", default=20.0, show_default=True, help="Messages a second.")
@click.option("--for", "seconds", type=Duration(), help="Stop after this, as 30s.")
@click.option("--seed", type=int, help="The same seed makes the same messages, ids included.")
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write what was sent. [default: <data folder>/ledger.jsonl]",
)
@click.option(
    "--scenario",
    default="quiet-day",
    show_default=True,
    help="quiet-day, carrier-outage, fraud-burst, edge-outage, everything, or a TOML file.",
)
def simulate(
    rate: float, seconds: float | None, seed: int | None, ledger: Path | None, scenario: str
) -> None:
    """Play Vonage: send made-up messages, answers and webhooks to the edge of this machine."""
    from sendtrace.runtime.service import stop_on_signals
    from sendtrace.simulator.run import simulate as run_simulator

    settings = _settings()
    path = ledger or Path(settings.data_dir) / "ledger.jsonl"
    # Without a seed every run has messages of its own, or a second run would repeat the first.
    chosen = secrets.randbits(63) if seed is None else seed
    positive_rate = _positive(rate)

    async def run() -> None:
        tally = await run_simulator(
            settings, positive_rate, seconds, chosen, path, stop_on_signals(), scenario
        )
        click.echo(f"{tally} (seed {chosen})")

    asyncio.run(run())


@cli.group()
def topics() -> None:
    """Create or check the Kafka topics."""


@topics.command("apply")
def topics_apply() -> None:
    """Create the topics that are missing."""
    from sendtrace.runtime import topics as runtime_topics

    lines = asyncio.run(runtime_topics.apply(_settings()))
    click.echo("\n".join(lines or ["all topics are there and as they must be"]))


@topics.command("check")
def topics_check() -> None:
    """Print how the topics differ from what they must be; exit 5 if they do."""
    from sendtrace.runtime import topics as runtime_topics

    drift = asyncio.run(runtime_topics.drift(_settings()))
    click.echo("\n".join(map(str, drift)) or "all topics are there and as they must be")
    sys.exit(DIFFERS if drift else OK)


@cli.command()
def migrate() -> None:
    """Bring the warehouse's tables up to date."""
    from sendtrace.runtime.topics import DependencyAway
    from sinks.migrate import migrate as run_migrations

    dsn = _settings().postgres_dsn
    try:
        applied = asyncio.run(run_migrations(dsn))
    except OSError as error:  # asyncpg passes on what the system says: refused, no such host
        raise DependencyAway(
            "PostgreSQL does not answer: start it (`sendtrace up`), or set SENDTRACE_POSTGRES_DSN"
        ) from error
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


@cli.command()
@click.option(
    "--ledger",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the simulator wrote. [default: <data folder>/ledger.jsonl]",
)
@click.option(
    "--wait",
    "wait_seconds",
    type=Duration(),
    default="60s",
    show_default=True,
    help="For so long a difference may still be something that is under way.",
)
@_port_base
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(ledger: Path | None, wait_seconds: float, port_base: int | None, as_json: bool) -> None:
    """Hold ledger, topics, warehouse and /metrics against each other; exit 5 if they differ.

    Waits until nothing is under way any more, and for deadlines that go by in time. Needs a
    simulator that is done, and nobody else's messages in the same topics.
    """
    from rich.console import Console

    from sendtrace.runtime.kafka import KafkaClients
    from sendtrace.verify import report as reports
    from sendtrace.verify.run import verify as run_verify

    settings = _of_stack(_with_port_base(port_base))
    path = ledger or Path(settings.data_dir) / "ledger.jsonl"
    if not path.exists():
        raise click.UsageError(f"there is no ledger at {path}: `sendtrace simulate` writes one")
    progress = Console(stderr=True, highlight=False)
    found = asyncio.run(
        run_verify(settings, KafkaClients(settings), path, wait_seconds, progress.print)
    )
    if as_json:
        click.echo(reports.as_json(found))
    else:
        reports.show(found, Console(highlight=False))
    sys.exit(OK if found.is_equal else DIFFERS)


@cli.command()
@click.option(
    "--from", "source", type=click.Choice(["quarantine"]), required=True, help="Where they lie."
)
@click.option("--reason", "reasons", multiple=True, help="Only what lies there for this reason.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@_port_base
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def replay(
    source: str,
    reasons: tuple[str, ...],
    dry_run: bool,
    port_base: int | None,
    as_json: bool,
) -> None:
    """Put through again what lies in quarantine and is understood now.

    Each record once, however often this runs, unchanged and with its original times. What was put
    there on purpose (a stale webhook, a row that the database refuses) only with its --reason.
    """
    from sendtrace.replay import report as told
    from sendtrace.replay import run
    from sendtrace.runtime.kafka import KafkaClients

    del source  # there is but one
    settings = _settings_at(port_base)
    report = _with_topics(
        settings,
        lambda: run.replay(
            KafkaClients(settings), settings, reasons, dry_run=dry_run, now_us=_now_us
        ),
    )
    click.echo(told.as_json(report) if as_json else told.as_text(report))


@cli.command()
@_port_base
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def rebuild(port_base: int | None, as_json: bool) -> None:
    """Derive the warehouse's rows from the topics anew, while the loader runs.

    Readers see the old rows until all the new ones are there at once. Rows of messages that the
    topics have forgotten stay. It may be stopped at any point, and run again.
    """
    from sendtrace.runtime import topics as runtime_topics
    from sendtrace.runtime.kafka import KafkaClients
    from sinks import rebuild as module

    settings = _settings_at(port_base)

    def told(progress: module.Progress) -> None:
        share = 100 * progress.read // max(progress.total, 1)
        click.echo(f"{progress.stage}: {progress.read:,} offsets, {share} %", err=True)

    async def work() -> module.Report:
        cluster_id = await runtime_topics.cluster_id(settings)
        return await module.rebuild(KafkaClients(settings), settings, cluster_id, told)

    report = _with_topics(settings, work)
    click.echo(module.as_json(report) if as_json else module.as_text(report))


@cli.command()
@click.option("--recipient", help="The person's number; - reads it from standard input.")
@click.option("--message-id", "message_ids", multiple=True, help="A message; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say how many, and do nothing.")
@_port_base
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def forget(
    recipient: str | None,
    message_ids: tuple[str, ...],
    dry_run: bool,
    port_base: int | None,
    as_json: bool,
) -> None:
    """Forget a person: every message to a number, and what came in from it.

    Of a message nothing but its id is kept, whatever comes later. Prints how many, never which.
    """
    from schemas.vonage.fields import ID_LENGTH
    from sendtrace import forget as module
    from sendtrace.runtime.kafka import KafkaClients

    if recipient == "-":
        recipient = sys.stdin.readline()
    recipient = (recipient or "").strip() or None
    if bool(recipient) == bool(message_ids):
        raise click.UsageError("either --recipient or --message-id")
    if not all(0 < len(each) <= ID_LENGTH and "\0" not in each for each in message_ids):
        raise click.BadParameter("not an id", param_hint="--message-id")
    settings = _settings_at(port_base)
    report = _with_topics(
        settings,
        lambda: module.forget(
            KafkaClients(settings),
            settings,
            recipient=recipient,
            message_ids=message_ids,
            dry_run=dry_run,
            now_us=_now_us,
        ),
    )
    click.echo(msgspec.json.encode(report).decode() if as_json else module.as_text(report))


@cli.command()
@click.argument("message_id")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--show-numbers", is_flag=True, help="Show phone numbers, too.")
@_port_base
def explain(message_id: str, as_json: bool, show_numbers: bool, port_base: int | None) -> None:
    """Say what happened to a message, and why its outcome is what it is.

    From the warehouse; where that is away or does not know it, from the topic. Exit 5: nobody knows
    it.
    """
    from sendtrace.explain import found as looked_up
    from sendtrace.explain import report, words
    from sendtrace.runtime.kafka import KafkaClients

    settings = _settings_at(port_base)
    found = asyncio.run(looked_up.find(KafkaClients(settings), settings, message_id))
    if found is None:
        click.echo("no message has this id, as far as warehouse and topic know", err=True)
        sys.exit(DIFFERS)
    told = words.tell(found, show_numbers=show_numbers)
    click.echo(report.as_json(told) if as_json else report.as_text(told))


@cli.command()
@click.option("--jsonl", is_flag=True, help="The form of input and output: an object a line.")
@click.argument("source", type=click.File("rb"), default="-")
def decode(jsonl: bool, source: BinaryIO) -> None:
    """Say what bodies of Vonage mean. Each line in gives one line out, whatever it holds.

    In: {"format": "json|form|query|xml", "body": "...", "hint": "status|receipt|inbound|alerts|
    send" or null}. Out: the normalised event, or {"kind": "quarantine", "reason": ...}.
    """
    from schemas.vonage.jsonl import decode_line

    if not jsonl:
        raise click.UsageError("only one form is known: sendtrace decode --jsonl [FILE]")
    out = sys.stdout.buffer
    for line in source:
        out.write(decode_line(line) + b"\n")
        out.flush()  # who asks line by line waits for the answer


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def config(as_json: bool) -> None:
    """Print every setting: its value, its default, and where it came from."""
    from sendtrace.local import config as report
    from sendtrace.runtime.accounts import read_terms

    rows = report.rows(os.environ)
    click.echo(report.as_json(rows) if as_json else report.as_text(rows))
    # After the list: whoever is told of a wrong one wants to see the right ones.
    read_terms(_settings().accounts_file)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Check what sendtrace needs, and say what to do about what is amiss; exit 4 if it is away."""
    from sendtrace.local import doctor as report

    findings = asyncio.run(report.examine(_settings()))
    click.echo(report.as_json(findings) if as_json else report.as_text(findings))
    sys.exit(report.exit_code(findings))


def main() -> None:
    """The console script. Turns errors that people can mend into a sentence and an exit code."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except _foreseen() as error:
        from sendtrace.local.complaints import complaint

        told = complaint(error)
        if told is None:
            raise
        click.echo(told.text, err=True)
        sys.exit(told.exit_code)


def _foreseen() -> tuple[type[Exception], ...]:
    """Asked only when something was raised: these imports would make `--help` slow."""
    from sendtrace.local.complaints import FORESEEN

    return FORESEEN


def _settings() -> Settings:
    return from_environment(os.environ)


def _with_port_base(port_base: int | None) -> Settings:
    settings = _settings()
    if port_base is None:
        return settings
    return msgspec.structs.replace(settings, port_base=port_base)


def _of_stack(settings: Settings) -> Settings:
    """Where a stack of `up` listens, with these settings, and the secrets that it made."""
    from sendtrace.local.plan import Options, make_plan

    return make_plan(settings, os.environ, Options()).settings


def _settings_at(port_base: int | None) -> Settings:
    """The environment's; with a port base those of the stack that `up` runs there."""
    return _settings() if port_base is None else _of_stack(_with_port_base(port_base))


def _now_us() -> int:
    return time.time_ns() // 1000


def _with_topics(settings: Settings, work: Callable[[], Awaitable[T]]) -> T:
    """A short task with Kafka: the topics are looked at first, as every process does."""
    from sendtrace.runtime import topics as runtime_topics

    async def run() -> T:
        await runtime_topics.require(settings)
        return await work()

    return asyncio.run(run())


def _positive(rate: float) -> float:
    if not 0 < rate < 100_000:
        raise click.BadParameter("must be above 0 and below 100000", param_hint="--rate")
    return rate


def _run_process(run: Callable[[Settings], Awaitable[None]]) -> None:
    """One process: settings, logs, garbage collection, and its one event loop."""
    from sendtrace.runtime.service import configure_logging

    settings = _settings()
    configure_logging(settings.log_level)
    _calm_garbage_collection()

    async def run_it() -> None:
        await run(settings)

    asyncio.run(run_it())


def _calm_garbage_collection() -> None:
    """Spare the collector what never becomes garbage: 21 to 37 % of the CPU.

    Everything imported is out of its sight, and full collections of the rest are rare. Memory
    stays bounded, as it would not with ``gc.disable()``.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
