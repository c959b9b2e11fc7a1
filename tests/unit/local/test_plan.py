"""What `up` decides before it starts anything."""

from pathlib import Path

import pytest

from sendtrace.local.plan import MADE_BY_US, Options, child_environment, make_plan
from sendtrace.runtime.settings import Settings, SettingsError, from_environment


def test_everything_is_started_here_by_default() -> None:
    plan = make_plan(Settings(), {}, Options())
    assert plan.ports == {
        "edge": 8080,
        "edge's internal port": 8081,
        "joiner": 8083,
        "rollup": 8086,
        "exporter": 8084,
        "loader": 8085,
        "Kafka": 19092,
        "Kafka's controller": 19093,
        "PostgreSQL": 15432,
    }
    assert [process.name for process in plan.processes] == [
        "edge",
        "joiner",
        "rollup",
        "loader",
        "exporter",
    ]
    assert plan.simulator is not None
    assert plan.simulator.arguments == ("simulate", "--rate", "20.0")


def test_the_port_base_moves_every_port_and_address() -> None:
    plain = make_plan(Settings(), {}, Options())
    moved = make_plan(Settings(port_base=1000), {}, Options())
    assert moved.ports == {name: port + 1000 for name, port in plain.ports.items()}
    assert moved.settings.kafka_bootstrap == "127.0.0.1:20092"
    assert moved.settings.postgres_dsn == "postgresql://sendtrace@127.0.0.1:16432/sendtrace"


def test_three_brokers_have_places_of_their_own_and_clients_are_told_all() -> None:
    plan = make_plan(Settings(port_base=1000, data_dir="/data"), {}, Options(brokers=3))
    kafka = {name: port for name, port in plan.ports.items() if name.startswith("Kafka")}
    assert kafka == {
        "Kafka 1": 20092,
        "Kafka 1's controller": 20093,
        "Kafka 2": 20094,
        "Kafka 2's controller": 20095,
        "Kafka 3": 20096,
        "Kafka 3's controller": 20097,
    }
    assert len(set(plan.ports.values())) == len(plan.ports)
    assert plan.settings.kafka_bootstrap == "127.0.0.1:20092,127.0.0.1:20094,127.0.0.1:20096"
    folders = [broker.folder for broker in plan.brokers]
    assert folders == [Path("/data/kafka-1"), Path("/data/kafka-2"), Path("/data/kafka-3")]
    assert {folder.name for folder in folders} <= set(MADE_BY_US)


def test_servers_of_yours_are_used_and_not_started() -> None:
    environment = {
        "SENDTRACE_KAFKA_BOOTSTRAP": "kafka.example:9092",
        "SENDTRACE_POSTGRES_DSN": "postgresql://db.example/warehouse",
    }
    plan = make_plan(from_environment(environment), environment, Options())
    assert (plan.brokers, plan.postgres_port) == ((), None)
    assert plan.settings.kafka_bootstrap == "kafka.example:9092"
    assert plan.settings.postgres_dsn == "postgresql://db.example/warehouse"
    assert not {"Kafka", "PostgreSQL"} & plan.ports.keys()


def test_the_simulator_can_be_left_out_or_bounded() -> None:
    assert make_plan(Settings(), {}, Options(rate=None)).simulator is None
    bounded = make_plan(Settings(), {}, Options(rate=5.0, simulate_seconds=30.0)).simulator
    assert bounded is not None
    assert bounded.arguments == ("simulate", "--rate", "5.0", "--for", "30.0s")
    assert bounded.may_finish
    chosen = make_plan(Settings(), {}, Options(scenario="everything")).simulator
    assert chosen is not None
    assert chosen.arguments[-2:] == ("--scenario", "everything")


def test_a_gap_is_accepted_by_who_has_positions_and_only_when_asked() -> None:
    def accept(options: Options) -> list[str]:
        plan = make_plan(Settings(), {}, options)
        return [each.name for each in plan.processes if "--accept-gap" in each.until_up]

    assert accept(Options()) == []
    assert accept(Options(accept_gap=True)) == ["joiner", "rollup", "loader"]


def test_secrets_are_made_and_the_children_know_where() -> None:
    plan = make_plan(Settings(data_dir="/data"), {}, Options())
    assert plan.makes_secrets
    assert plan.settings.accounts_file == "/data/secrets/accounts.toml"
    assert plan.settings.sends_token_file == "/data/secrets/sends.token"
    assert "secrets" in MADE_BY_US


def test_an_accounts_file_of_yours_is_used_and_nothing_made() -> None:
    environment = {"SENDTRACE_ACCOUNTS_FILE": "/etc/accounts.toml"}
    plan = make_plan(from_environment(environment), environment, Options())
    assert not plan.makes_secrets
    assert plan.settings.accounts_file == "/etc/accounts.toml"
    assert plan.settings.sends_token_file == ""


def test_a_token_file_of_yours_is_used_beside_the_accounts_made_here() -> None:
    environment = {"SENDTRACE_SENDS_TOKEN_FILE": "/etc/token"}
    plan = make_plan(from_environment(environment), environment, Options())
    assert plan.makes_secrets
    assert plan.settings.sends_token_file == "/etc/token"


def test_children_have_another_working_directory_so_paths_are_absolute() -> None:
    plan = make_plan(Settings(), {}, Options())
    assert plan.data_dir == Path(".sendtrace").absolute()
    assert plan.settings.data_dir == str(plan.data_dir)
    assert Path(plan.settings.accounts_file).is_absolute()


def test_a_port_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="fixed ports"):
        make_plan(Settings(edge_port=0), {}, Options())


def test_a_child_gets_exactly_these_settings_and_the_rest_of_the_environment() -> None:
    settings = make_plan(Settings(port_base=7), {}, Options()).settings
    environment = child_environment({"PATH": "/bin", "SENDTRACE_PORT_BASE": "1"}, settings)
    assert environment["PATH"] == "/bin"
    assert from_environment(environment) == settings
