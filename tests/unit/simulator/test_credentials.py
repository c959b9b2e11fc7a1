"""What the simulator proves, judged by the edge's own accounts and by the signatures' rules."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.verify import judge, kind_of
from schemas.vonage.detect import detect
from schemas.vonage.signing import Method, Verdict, bearer, verify_jwt, verify_sig
from sendtrace.runtime.accounts import parse
from sendtrace.runtime.settings import SettingsError
from sendtrace.simulator.credentials import Account, prove, read_accounts
from sendtrace.simulator.parties import ACCOUNTS
from sendtrace.simulator.plan import Plan
from sendtrace.simulator.webhook import Request, Webhook

Plans = Callable[..., list[Plan]]
Fields = Callable[[Request], dict[str, str]]
NOW_S = 1_795_000_000


def webhooks(plans: Plans, api: str, account: str) -> list[Webhook]:
    return [
        w for plan in plans(1, 1500) for w in plan.webhooks if (w.api, w.account) == (api, account)
    ]


@pytest.mark.parametrize("name", ACCOUNTS)
def test_messages_carry_a_token_over_their_body(
    plans: Plans, accounts: dict[str, Account], name: str
) -> None:
    keys = {name: [accounts[name].secret]}
    for webhook in webhooks(plans, "messages", name):
        sent = prove(webhook, accounts[name], NOW_S, "n")
        verdict = verify_jwt(bearer(sent.authorization), sent.body, keys, NOW_S)
        assert (verdict.verdict, verdict.account) == (Verdict.VALID, name)
        assert sent.path == f"/webhooks/{webhook.kind}"
        assert verify_jwt(
            bearer(sent.authorization), sent.body + b" ", keys, NOW_S
        ).verdict is Verdict.BODY_MISMATCH  # fmt: skip


def test_sms_are_signed_where_that_is_required(
    plans: Plans, fields: Fields, accounts: dict[str, Account]
) -> None:
    account = accounts["e5f60718"]
    shapes = set()
    for webhook in webhooks(plans, "sms", "e5f60718"):
        sent = prove(webhook, account, NOW_S, "n")
        given = fields(sent)
        shapes.add((webhook.kind, webhook.shape))
        assert verify_sig(given, Method.SHA512, [account.secret])
        assert not verify_sig({**given, "messageId": "other"}, Method.SHA512, [account.secret])
        assert given["timestamp"] == str(NOW_S)
        assert sent.path == f"/webhooks/{webhook.kind}"
        assert sent.authorization is None
    assert len(shapes) == 6


@pytest.mark.parametrize("api", ["sms", "alerts"])
def test_what_does_not_sign_comes_by_the_secret_path(
    plans: Plans, fields: Fields, accounts: dict[str, Account], api: str
) -> None:
    account = accounts["a1b2c3d4"]
    found = webhooks(plans, api, "a1b2c3d4")
    assert found
    for webhook in found:
        sent = prove(webhook, account, NOW_S, "n")
        assert sent.path == f"/webhooks/{account.token}/{webhook.kind}"
        assert "sig" not in fields(sent)
        assert sent.authorization is None


def test_each_attempt_is_signed_anew_and_says_the_same(
    plans: Plans, fields: Fields, accounts: dict[str, Account]
) -> None:
    message = webhooks(plans, "messages", "e5f60718")[0]
    first, second = (prove(message, accounts["e5f60718"], NOW_S + i, f"n{i}") for i in (0, 1))
    assert first.authorization != second.authorization
    assert first.body == second.body
    receipt = webhooks(plans, "sms", "e5f60718")[0]
    one, two = (fields(prove(receipt, accounts["e5f60718"], NOW_S + i, f"n{i}")) for i in (0, 1))
    assert {name for name in one if one[name] != two[name]} == {"timestamp", "nonce", "sig"}


def test_without_accounts_nothing_is_proven(plans: Plans, fields: Fields) -> None:
    for plan in plans(1, 200):
        for webhook in plan.webhooks:
            sent = prove(webhook, None, NOW_S, "n")
            assert sent.path == f"/webhooks/{webhook.kind}"
            assert sent.authorization is None
            assert "sig" not in fields(sent)


def test_neither_accounts_nor_requests_show_secrets(
    plans: Plans, accounts: dict[str, Account]
) -> None:
    for account in accounts.values():
        assert account.secret.decode() not in repr(account)
        assert account.token not in repr(account)
    for plan in plans(1, 50):
        for webhook in plan.webhooks:
            account = accounts[webhook.account]
            sent = prove(webhook, account, NOW_S, "n")
            assert account.token not in repr(sent)
            assert webhook.message_id not in repr(sent)
            assert "Bearer" not in repr(sent)


def test_the_edge_reads_the_same_accounts(
    accounts_file: Path, accounts: dict[str, Account]
) -> None:
    read = parse(accounts_file.read_text(), lambda name: (accounts_file.parent / name).read_text())
    assert read.by_name.keys() == accounts.keys()
    for name, account in read.by_name.items():
        assert account.secrets == (accounts[name].secret,)
        assert account.tokens == (accounts[name].token.encode(),)
        assert account.method == accounts[name].sig_method


def test_the_edge_verifies_all_of_it_as_of_the_account_that_sent(
    plans: Plans, accounts_file: Path, accounts: dict[str, Account]
) -> None:
    read = parse(accounts_file.read_text(), lambda name: (accounts_file.parent / name).read_text())
    by = set()
    for plan in plans(2, 1500):
        for webhook in plan.webhooks:
            sent = prove(webhook, accounts[webhook.account], NOW_S, "n")
            query = sent.query.encode()
            found = detect(sent.method, sent.path, query, sent.content_type, sent.body)
            holder = read.of_token(sent.path.split("/")[2].encode())
            judged = judge(
                kind_of(found),
                found.value,
                found.content_type,
                sent.authorization,
                holder,
                read,
                NOW_S,
            )
            assert judged.verdict is Verdict.VALID, webhook
            assert judged.account == webhook.account
            assert not judged.differs
            by.add((webhook.api, judged.verified))
    assert by == {("messages", "jwt"), ("sms", "sig"), ("sms", "token"), ("alerts", "token")}


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("not toml ["),
        lambda path: path.write_text('[accounts.a1b2c3d4]\nmessages = "maybe"'),
        lambda path: path.write_text(path.read_text().replace("accounts.e5f60718", "accounts.x")),
        lambda path: (path.parent / "a1b2c3d4.token").unlink(),
        lambda path: (path.parent / "a1b2c3d4.secret").write_text(" \n"),
    ],
)
def test_accounts_that_cannot_be_played_are_refused_in_a_sentence(
    accounts_file: Path, harm: Callable[[Path], object]
) -> None:
    secrets = {p.read_text().strip() for p in accounts_file.parent.glob("*.secret")}
    harm(accounts_file)
    with pytest.raises(SettingsError, match="SENDTRACE_ACCOUNTS_FILE") as raised:
        read_accounts(accounts_file, ACCOUNTS)
    assert not any(secret in str(raised.value) for secret in secrets)


def test_files_are_for_their_owner_alone(accounts_file: Path) -> None:
    assert {stat.S_IMODE(p.stat().st_mode) for p in accounts_file.parent.iterdir()} == {0o600}
