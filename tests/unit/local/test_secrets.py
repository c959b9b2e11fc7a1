"""Secrets are made once, for their owner alone, and kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sendtrace.local import secrets
from sendtrace.local.process import LocalStackError
from sendtrace.runtime.accounts import Policy, parse
from sendtrace.simulator.parties import ACCOUNTS


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_edge_finds_each_way_of_proof(tmp_path: Path) -> None:
    folder = secrets.make(tmp_path)
    accounts = parse((folder / "accounts.toml").read_text(), lambda n: (folder / n).read_text())
    found = {
        name: (account.policies.messages, account.policies.sms, account.policies.receipt)
        for name, account in accounts.by_name.items()
    }
    assert found == {
        "a1b2c3d4": (Policy.REQUIRED, Policy.TOKEN, Policy.TOKEN),
        "e5f60718": (Policy.REQUIRED, Policy.REQUIRED, Policy.REQUIRED),
        "local": (Policy.OPTIONAL, Policy.TOKEN, Policy.TOKEN),
    }
    assert set(ACCOUNTS) < found.keys()
    token = secrets.local_token(tmp_path).encode()
    assert accounts.of_token(token) is accounts.by_name["local"]


def test_every_secret_is_another_one_and_long(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made = contents(secrets.make(tmp_path))
    texts = [text for name, text in made.items() if name != "accounts.toml"]
    assert len(texts) == 7
    assert len(set(texts)) == len(texts)
    assert all(len(text) == 48 for text in texts)
    other = contents(secrets.make(tmp_path / "other"))
    assert set(texts).isdisjoint(other.values())


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    folder = secrets.make(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_what_was_opened_to_others_is_closed_again(tmp_path: Path) -> None:
    folder = secrets.make(tmp_path)
    folder.chmod(0o755)
    (folder / "local.token").chmod(0o644)
    secrets.make(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "local.token").stat().st_mode) == 0o600


def test_a_restart_keeps_them_also_what_was_added_by_hand(tmp_path: Path) -> None:
    folder = secrets.make(tmp_path)
    with (folder / "accounts.toml").open("a") as file:
        file.write("# mine\n")
    before = contents(folder)
    secrets.make(tmp_path)
    assert contents(folder) == before


def test_a_start_cut_short_is_completed(tmp_path: Path) -> None:
    folder = secrets.make(tmp_path)
    before = contents(folder)
    (folder / "accounts.toml").unlink()
    (folder / "e5f60718.token").rename(folder / "e5f60718.token.partial")
    secrets.make(tmp_path)
    after = contents(folder)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"e5f60718.token"}


def test_who_finds_the_accounts_finds_what_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make_file = secrets._make_file
    monkeypatch.setattr(
        secrets, "_make_file", lambda path, text: (made.append(path.name), make_file(path, text))
    )
    secrets.make(tmp_path)
    assert made[-1] == "accounts.toml"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("a file")
    with pytest.raises(LocalStackError, match="Cannot make the secrets"):
        secrets.make(tmp_path)
