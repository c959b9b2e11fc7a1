"""The command line: help, exit codes, and sentences instead of tracebacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import click
import pytest
from aiokafka.errors import KafkaConnectionError
from click.testing import CliRunner

from sendtrace.cli import Duration, cli
from sendtrace.local.complaints import FORESEEN, complaint
from sendtrace.local.process import LocalStackError
from sendtrace.runtime.settings import SettingsError
from sendtrace.runtime.topics import DependencyAway, TopicsError
from sinks.migrate import MigrationError
from sinks.postgres import RowsRefused
from sinks.rebuild import RebuildBusy

from stack_up import free_port_base

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "up", "down", "edge", "joiner", "rollup", "exporter", "loader", "simulate", "topics",
    "migrate", "verify", "config", "decode", "doctor", "replay", "rebuild", "forget", "explain",
]  # fmt: skip
# Nobody listens on port 1: away at once.
AWAY = {
    "SENDTRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "SENDTRACE_POSTGRES_DSN": "postgresql://sendtrace@127.0.0.1:1/sendtrace",
}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "SENDTRACE" not in name}
    return subprocess.run(
        [sys.executable, "-m", "sendtrace", *arguments],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    assert [line.split()[0] for line in text.partition("Commands:")[2].splitlines() if line] == (
        sorted(COMMANDS)
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) >= 5


def test_wrong_usage_is_2() -> None:
    result = run("up", "--rate", "fast")
    assert result.returncode == 2
    assert "'fast' is not a valid float" in result.stderr


@pytest.mark.parametrize("rate", ["0", "-1", "nan"])
def test_a_rate_that_is_none_is_2(rate: str) -> None:
    assert run("simulate", "--rate", rate).returncode == 2


def test_an_unknown_setting_is_3_and_names_the_nearest() -> None:
    result = run("edge", SENDTRACE_KAFKA_BOOTSTRP="x")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == (
        "SENDTRACE_KAFKA_BOOTSTRP is not a setting; did you mean SENDTRACE_KAFKA_BOOTSTRAP? "
        "(`sendtrace config` lists all)\n"
    )


def test_config_lists_all_settings_also_when_one_is_wrong() -> None:
    result = run("config", SENDTRACE_PARTITIONS="twelve")
    assert result.returncode == 3
    assert "SENDTRACE_PARTITIONS                  twelve  (default 12)" in result.stdout
    assert "SENDTRACE_PARTITIONS: " in result.stderr


def test_kafka_away_is_4_and_one_sentence() -> None:
    result = run("topics", "check", **AWAY)
    assert result.returncode == 4
    assert result.stderr == (
        "Kafka at 127.0.0.1:1 does not answer: start it (`sendtrace up`), or set "
        "SENDTRACE_KAFKA_BOOTSTRAP\n"
    )


def test_postgres_away_is_4_and_one_sentence() -> None:
    result = run("migrate", **AWAY)
    assert result.returncode == 4
    assert result.stderr == (
        "PostgreSQL does not answer: start it (`sendtrace up`), or set SENDTRACE_POSTGRES_DSN\n"
    )


@pytest.mark.parametrize("dsn", ["nonsense", "postgresql://u:hunter2/@db/x", "mysql://u:p@db/x"])
def test_what_is_no_dsn_is_3_and_one_sentence_without_the_password(dsn: str) -> None:
    result = run("migrate", SENDTRACE_POSTGRES_DSN=dsn)
    assert result.returncode == 3
    assert result.stderr.startswith("SENDTRACE_POSTGRES_DSN is no address of a database")
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.stderr


def test_another_number_of_brokers_than_the_data_is_of_is_refused_in_a_sentence(
    tmp_path: Path,
) -> None:
    (tmp_path / "kafka" / "log").mkdir(parents=True)
    (tmp_path / "kafka" / "log" / "meta.properties").write_text("cluster.id=x\n")
    result = run("up", "--brokers", "3", SENDTRACE_DATA_DIR=str(tmp_path))
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert "begun with --brokers 1" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "--from", "quarantine"),
        ("rebuild",),
        ("forget", "--message-id", "x"),
        ("explain", "x"),
    ],
)
def test_what_works_on_the_data_is_4_too_when_kafka_is_away(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, **AWAY)
    assert (result.returncode, result.stdout) == (4, "")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("replay", "--from", "quarantine"), ("rebuild",), ("forget", "--message-id", "x")]
)
def test_what_works_on_the_data_finds_a_stack_by_its_port_base(arguments: tuple[str, ...]) -> None:
    base = free_port_base()
    result = run(*arguments, "--port-base", str(base))
    assert result.returncode == 4
    assert result.stderr.startswith(f"Kafka at 127.0.0.1:{19_092 + base} does not answer")


def test_replay_knows_one_place() -> None:
    assert run("replay").returncode == 2
    assert run("replay", "--from", "elsewhere").returncode == 2


def test_the_doctor_says_what_to_do_and_is_4_when_something_is_away(tmp_path: Path) -> None:
    result = run("doctor", "--json", SENDTRACE_DATA_DIR=str(tmp_path), **AWAY)
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert result.returncode == 4
    assert {name for name, finding in findings.items() if finding["state"] == "away"} == {
        "Kafka",
        "PostgreSQL",
    }
    assert all(bool(f["advice"]) == (f["state"] != "ok") for f in findings.values())


def test_the_simulator_refuses_other_machines(tmp_path: Path) -> None:
    result = run(
        "simulate",
        "--for",
        "1s",
        SENDTRACE_BIND_ADDRESS="10.1.2.3",
        SENDTRACE_DATA_DIR=str(tmp_path),
    )
    assert result.returncode == 3
    assert "only talks to this machine" in result.stderr


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (SettingsError("x"), 3),
        (TopicsError("x"), 3),
        (asyncpg.InvalidPasswordError("x"), 3),
        (asyncpg.InvalidCatalogNameError("x"), 3),
        (DependencyAway("x"), 4),
        (LocalStackError("x"), 4),
        (KafkaConnectionError("x"), 4),
        (ConnectionRefusedError("x"), 4),
        (asyncpg.CannotConnectNowError("x"), 4),
        (MigrationError("x"), 5),
        (RowsRefused("x"), 5),
        (RebuildBusy("x"), 4),
        (ExceptionGroup("", [ExceptionGroup("", [DependencyAway("x")])]), 4),
    ],
)
def test_exit_codes(error: Exception, exit_code: int) -> None:
    told = complaint(error)
    assert told is not None
    assert told.exit_code == exit_code
    assert isinstance(error, FORESEEN)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a fault of ours"),
        asyncpg.UndefinedColumnError("a fault of ours"),
        ExceptionGroup("", [DependencyAway("x"), ValueError("hidden by nothing")]),
    ],
)
def test_a_fault_of_ours_keeps_its_traceback(error: Exception) -> None:
    assert complaint(error) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("500ms", 0.5), ("2", 2.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 d", "-3s", "0s", "nan", "infs"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_a_wrong_deadline_is_3_and_says_what_to_mend() -> None:
    for command in ("joiner", "edge", "config"):
        result = run(command, SENDTRACE_DEADLINES="sms:confirmation=48h")
        assert result.returncode == 3
        assert result.stderr == (
            "SENDTRACE_DEADLINES: in 'sms:confirmation=48h': 'sms' is no scope: "
            "write <api>/<channel>, * for any\n"
        )


def test_a_wrong_accounts_file_is_3_and_config_says_so_after_the_list(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text('[accounts.a]\nparents = ["b"]\n')
    result = run("config", SENDTRACE_ACCOUNTS_FILE=str(path))
    assert result.returncode == 3
    assert "SENDTRACE_DEADLINES" in result.stdout
    assert result.stderr.startswith("[accounts.a] parents, number 1: no [accounts.<api key>]")


@pytest.mark.parametrize(
    ("ledger", "requests", "told"),
    [
        ("", None, "requests.jsonl cannot be read"),
        ("", "", "ledger.jsonl names no message"),
        ('{"line":"complete","ids":["a"]}\n', "", "ledger.jsonl names no message"),
        ('{"some":"thing"}\n', "", "ledger.jsonl cannot be read"),
    ],
)
def test_verify_needs_something_that_was_sent(
    ledger: str, requests: str | None, told: str, tmp_path: Path
) -> None:
    """Nothing compared with nothing would be equal."""
    (tmp_path / "ledger.jsonl").write_text(ledger)
    if requests is not None:
        (tmp_path / "requests.jsonl").write_text(requests)
    done = run("verify", "--ledger", str(tmp_path / "ledger.jsonl"), **AWAY)
    assert done.returncode == 3
    assert told in done.stderr
    assert "Traceback" not in done.stderr
