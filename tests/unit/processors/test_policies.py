"""Settings and accounts file to a policy, and what the join makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.join.deadlines import next_deadline
from processors.join.policy import Deadlines, Policy
from processors.policies import policy_of
from processors.wiring import stage_config
from sendtrace.runtime.accounts import AccountsError
from sendtrace.runtime.settings import Settings

from strategies import T, fold, receipt, send, status, summary

ACCOUNTS = """
[accounts.sub12345]
signature_secrets = ["not/here"]
parents = ["main1234", "top12345"]
currency = "GBP"
[accounts.main1234]
signature_secrets = ["not/here"]
[accounts.top12345]
signature_secrets = ["not/here"]
currency = "USD"
"""


def settings(tmp_path: Path, text: str = ACCOUNTS) -> Settings:
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    return Settings(accounts_file=str(path))


def test_the_settings_as_shipped_are_the_policy_as_written() -> None:
    """Two places, one truth: the durations of docs/rules.md 3."""
    assert policy_of(Settings()) == Policy()


def test_every_setting_of_the_policy_arrives() -> None:
    found = policy_of(
        Settings(
            default_currency="CHF",
            callback_hosts="a.example, b.example",
            test_accounts="t1",
            test_client_ref_prefixes="test-",
            grace_seconds=5.0,
            retry_step_seconds=7.0,
            time_scale=3.0,
            deadlines="no_send=never",
        )
    )
    assert found == Policy(
        default_currency="CHF",
        callback_hosts=frozenset({"a.example", "b.example"}),
        test_accounts=frozenset({"t1"}),
        test_client_ref_prefixes=("test-",),
        grace_seconds=5.0,
        retry_step_seconds=7.0,
        time_scale=3.0,
        deadlines=Deadlines(no_send_seconds=None),
    )


def test_the_most_exact_entry_counts_for_each_thing() -> None:
    text = """no_send=1s, sms/*:no_send=2s, sms/*:margin=3s, */sms:confirmation=4s,
        */sms:margin=5s, messages/sms:margin=6s, */rcs:no_first_event=never"""
    found = policy_of(Settings(deadlines=text))

    def figures(api: str | None, channel: str | None) -> tuple[float | None, ...]:
        row = found.deadlines_for(api, channel)
        return row.no_send_seconds, row.confirmation_seconds, row.margin_seconds

    hours_72, hour = 72 * 3600, 3600
    assert figures("alerts", "mms") == figures(None, None) == (1, hours_72, hour)
    assert figures("sms", None) == figures("sms", "mms") == (2, hours_72, 3)
    assert figures("alerts", "sms") == figures(None, "sms") == (1, 4, 5)
    assert figures("sms", "sms") == (2, 4, 5)  # the channel before the api
    assert figures("messages", "sms") == (1, 4, 6)
    assert found.deadlines_for("sms", "rcs").no_first_event_seconds is None


def test_deadlines_decide_when_silence_counts() -> None:
    given = policy_of(Settings(deadlines="*/whatsapp:no_first_event=1h"))
    deadline = next_deadline(fold([send(channel="whatsapp")]), given)
    assert deadline is not None
    assert (deadline.at_us - T) // 1_000_000 == 3600


def test_parents_and_currency_come_from_the_accounts_file(tmp_path: Path) -> None:
    """Without its secrets: what it names is not there, and is not asked for."""
    policy = policy_of(settings(tmp_path))
    sent = send(account="sub12345")
    for parent in ("main1234", "top12345"):
        found = summary(sent, status("delivered", account=parent), policy=policy)
        assert (found.outcome, found.flags) == ("delivered", ())
    # A parent is nobody's child by that, and whom nobody named is foreign.
    of_parent = summary(
        send(account="main1234"), status("delivered", account="sub12345"), policy=policy
    )
    assert of_parent.flags == ("foreign_account",)
    stranger = summary(sent, status("delivered", account="other"), policy=policy)
    assert stranger.flags == ("foreign_account",)
    for account, currency in (("sub12345", "GBP"), ("main1234", "EUR"), ("top12345", "USD")):
        price = receipt("delivered", account=account, price_units=5)
        found = summary(price, policy=policy)
        assert (found.currency, found.currency_source) == (currency, "default")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[accounts.a]\nparents = ["a"]', "[accounts.a] parents: an account is not its own"),
        (
            '[accounts.a]\nparents = ["b"]',
            "[accounts.a] parents, number 1: no [accounts.",
        ),
        ('[accounts.a]\nparents = "b"', "$.accounts[...].parents"),
        ('[accounts.a]\ncurrency = "euro"', "$.accounts[...].currency"),
        ('[accounts.a]\ncurency = "EUR"', "curency"),
        ("[accounts", "not TOML"),
        ("", "accounts"),
    ],
)
def test_a_wrong_file_stops_the_joiner_too(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(AccountsError) as caught:
        stage_config(settings(tmp_path, text))
    assert sentence in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AccountsError, match="SENDTRACE_ACCOUNTS_FILE: the file cannot be read"):
        policy_of(Settings(accounts_file=str(tmp_path / "none")))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(AccountsError, match="the file is not text"):
        policy_of(Settings(accounts_file=str(tmp_path / "bytes")))
