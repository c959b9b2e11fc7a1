"""What `up` prints and removes, without starting anything."""

from __future__ import annotations

from pathlib import Path

from sendtrace.local import secrets, stack
from sendtrace.local.plan import Options, make_plan
from sendtrace.runtime.settings import Settings


def test_the_webhook_url_has_the_token_path_and_nothing_else_is_shown(tmp_path: Path) -> None:
    plan = make_plan(Settings(data_dir=str(tmp_path), port_base=500), {}, Options())
    folder = secrets.make(plan.data_dir)
    banner = stack._banner(plan, 1.0)
    token = (folder / "local.token").read_text()
    assert f"http://127.0.0.1:8580/webhooks/{token}/\n" in banner
    for path in folder.iterdir():
        if path.name not in ("local.token", "accounts.toml"):
            assert path.read_text() not in banner
    assert str(folder / "sends.token") in banner


def test_with_accounts_of_yours_the_plain_url_is_shown(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), accounts_file="/etc/accounts.toml")
    plan = make_plan(settings, {"SENDTRACE_ACCOUNTS_FILE": "/etc/accounts.toml"}, Options())
    banner = stack._banner(plan, 1.0)
    assert "http://127.0.0.1:8080/webhooks/\n" in banner
    assert "/etc/accounts.toml" in banner
    assert "from this host only" in banner


def test_starting_over_removes_the_secrets_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    before = {p.name: p.read_text() for p in secrets.make(tmp_path).iterdir()}
    (tmp_path / "mine").write_text("mine")
    stack._start_over(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    after = {p.name: p.read_text() for p in secrets.make(tmp_path).iterdir()}
    same = {name for name in before if before[name] == after[name]}
    assert same == {"accounts.toml"}
