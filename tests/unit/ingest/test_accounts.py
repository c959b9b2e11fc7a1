"""The accounts file: what is refused, what is the strictest, what a sentence never tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.reread import Reread, reread_accounts, reread_sends_token, watch
from schemas.vonage.signing import Method
from sendtrace.runtime.accounts import Accounts, AccountsError, Policies, Policy, parse
from sendtrace.runtime.settings import Settings

from fakes.signed import SECRET, TOKEN, write_accounts
from waiting import until

FILES = {"s": "the secret\n", "t": f" {TOKEN} \n", "t2": "t" * 20, "empty": " \n"}
FULL = """
own_parameters = ["customer"]
[accounts.abcd1234]
messages = "required"
sms = "token"
alerts = "optional"
sig_method = "sha512"
signature_secrets = ["s"]
tokens = ["t"]
"""


def read(name: str) -> str:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory", name)
    return FILES[name]


def account(lines: str, name: str = "a") -> str:
    return f"[accounts.{name}]\n{lines}\n"


def test_everything_that_a_file_says() -> None:
    accounts = parse(FULL, read)
    found = accounts.by_name["abcd1234"]
    assert found.policies == Policies(
        Policy.REQUIRED, Policy.TOKEN, receipt=Policy.TOKEN, unknown=Policy.REQUIRED
    )
    assert (found.method, found.secrets) == (Method.SHA512, (b"the secret",))
    assert accounts.secrets == {"abcd1234": (b"the secret",)}
    assert accounts.own_parameters == {"customer"}
    assert accounts.of_token(TOKEN.encode()) is found
    assert accounts.of_token(TOKEN.encode() + b"x") is None
    assert accounts.of_token(b"") is None


def test_what_cannot_be_told_apart_gets_the_strictest() -> None:
    text = account('messages="optional"\nsms="optional"\nalerts="token"\ntokens=["t"]', "a")
    text += account('messages="optional"\nsms="required"\nalerts="optional"\n'
                    'signature_secrets=["s"]', "b")  # fmt: skip
    accounts = parse(text, read)
    assert accounts.by_name["a"].policies.receipt is Policy.TOKEN
    assert accounts.by_name["a"].policies.sms is Policy.OPTIONAL
    assert accounts.by_name["b"].policies.receipt is Policy.REQUIRED
    assert accounts.strictest == Policies(
        Policy.OPTIONAL, Policy.REQUIRED, receipt=Policy.REQUIRED, unknown=Policy.REQUIRED
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("accounts = ", "not TOML"),
        ("", "accounts"),
        ("[accounts]", "no [accounts.<api key>]"),
        (account('sms = "never"'), "$.accounts[...].sms"),
        (account('smss = "token"'), "smss"),
        (account('messages = "token"\ntokens=["t"]'), 'messages is "required" or "optional"'),
        (account('signature_secrets=["s"]', '"a b"'), "named by its api key"),
        # A signature is required where nothing is said.
        (account(""), "a signature is required, and signature_secrets has none"),
        (account('messages="optional"\nsms="optional"\nalerts="required"'), "has none"),
        (account('messages="optional"\nsms="token"\nalerts="optional"'), "tokens has none"),
        (account('signature_secrets=["s", "s", "s"]'), "at most 2 may be live"),
        (account('signature_secrets=["447700900999"]'), "file 1: it cannot be read"),
        (account('signature_secrets=["s", "empty"]'), "file 2: it is empty"),
        (account('signature_secrets=["s"]\ntokens=["s"]'), "a token has 16 to 128"),
        (account('signature_secrets=["s"]\ntokens=["t"]')
         + account('signature_secrets=["s"]\ntokens=["t2", "t"]', "b"), "the same token"),
        ('own_parameters=["msisdn"]\n' + account('signature_secrets=["s"]'), "msisdn is Vonage's"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_sentence_without_a_secret(text: str, sentence: str) -> None:
    with pytest.raises(AccountsError) as caught:
        parse(text, read)
    assert sentence in str(caught.value)
    # Somebody may have written the secret where its file's name belongs.
    assert "447700900999" not in str(caught.value)
    assert not any(
        secret.strip() in str(caught.value) for secret in FILES.values() if secret.strip()
    )


def test_no_secret_is_ever_shown() -> None:
    accounts = parse(FULL, read)
    assert TOKEN not in repr(accounts) + repr(accounts.by_name)
    assert "the secret" not in repr(accounts) + repr(accounts.by_name)


def made(directory: Path) -> Reread[Accounts]:
    path = write_accounts(directory, "")
    found = reread_accounts(Settings(accounts_file=str(path)))
    assert found is not None
    return found


def touch(path: Path, text: str) -> None:
    """As an editor does: another file under the same name."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.replace(path)


def test_a_change_of_any_file_is_seen(tmp_path: Path) -> None:
    reread = made(tmp_path)
    assert reread.refresh() is False
    touch(tmp_path / "secrets" / "abcd1234", "rotated")
    assert reread.refresh() is True
    assert reread.value.secrets["abcd1234"] == (b"rotated", b"the next secret")
    assert reread.refresh() is False
    write_accounts(tmp_path, 'sms = "optional"')
    assert reread.refresh() is True
    assert reread.value.by_name["abcd1234"].policies.sms is Policy.OPTIONAL
    # A file that is no longer named is no longer looked at.
    text = (tmp_path / "accounts.toml").read_text()
    touch(tmp_path / "accounts.toml", text.replace(', "secrets/abcd1234.next"', ""))
    assert reread.refresh() is True
    (tmp_path / "secrets" / "abcd1234.next").unlink()
    assert reread.refresh() is False


@pytest.mark.parametrize(
    "spoil",
    [
        lambda directory: touch(directory / "accounts.toml", "[accounts"),
        lambda directory: (directory / "accounts.toml").unlink(),
        lambda directory: (directory / "secrets" / "abcd1234").unlink(),
        lambda directory: touch(directory / "secrets" / "abcd1234", ""),
        lambda directory: (directory / "secrets" / "abcd1234").write_bytes(b"\xff\xfe"),
    ],
)
def test_a_broken_change_keeps_the_old_and_is_said_once(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    reread = made(tmp_path)
    spoil(tmp_path)
    with pytest.raises(AccountsError):
        reread.refresh()
    assert reread.value.secrets["abcd1234"][0] == SECRET
    assert reread.refresh() is False
    write_accounts(tmp_path, "")
    assert reread.refresh() is True


async def test_the_watch_tells_the_new_and_survives_the_broken(tmp_path: Path) -> None:
    reread = made(tmp_path)
    new: list[Accounts] = []
    broken: list[str] = []
    task = asyncio.ensure_future(watch(reread, new.append, broken.append, 0.01))
    touch(tmp_path / "accounts.toml", "[accounts")
    await until(lambda: bool(broken))
    write_accounts(tmp_path, "")
    await until(lambda: bool(new))
    await asyncio.sleep(0.05)  # time to say either once more
    task.cancel()
    assert (len(broken), len(new)) == (1, 1)


def test_the_token_of_sends(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("sends token\n")
    reread = reread_sends_token(Settings(sends_token_file=str(path)))
    assert reread is not None
    assert reread.value == b"sends token"
    path.write_text("")
    with pytest.raises(AccountsError, match="SENDTRACE_SENDS_TOKEN_FILE: it is empty"):
        reread.refresh()
    assert reread_sends_token(Settings()) is None
    with pytest.raises(AccountsError, match="cannot be read"):
        reread_sends_token(Settings(sends_token_file=str(tmp_path / "none")))
    with pytest.raises(AccountsError, match="SENDTRACE_ACCOUNTS_FILE"):
        reread_accounts(Settings(accounts_file=str(tmp_path / "none")))
