"""The local stack's secrets: made once, kept over restarts, removed by ``--fresh``.

A folder for its owner alone. ``accounts.toml`` tells the edge which accounts there are and how
each proves its webhooks, and the simulator how to sign them; the secrets are in files beside it.
What is there is never changed: whoever adds an account of their own keeps it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sendtrace.local.datadir import explained

FOLDER = "secrets"
ACCOUNTS_FILE = "accounts.toml"
SENDS_TOKEN_FILE = "sends.token"  # noqa: S105 - a name, not a token
# For people: unsigned webhooks of every API are taken through its token path.
LOCAL_ACCOUNT = "local"
TOKEN_BYTES = 24

# One account for each way of proof. Alerts are never signed, and a receipt does not say whether it
# is theirs, so an account whose SMS receipts must be signed gets none (docs/edge.md).
ACCOUNTS = f"""\
# Made by `sendtrace up`. Which accounts there are, and how each proves that a webhook is Vonage's.
own_parameters = []

# Played by the simulator: Messages are signed, SMS and Alerts come through the token path.
[accounts.a1b2c3d4]
messages = "required"
sms = "token"
alerts = "token"
sig_method = "sha256"
signature_secrets = ["a1b2c3d4.secret"]
tokens = ["a1b2c3d4.token"]

# Played by the simulator: SMS receipts are signed too.
[accounts.e5f60718]
messages = "required"
sms = "required"
alerts = "token"
sig_method = "sha512"
signature_secrets = ["e5f60718.secret"]
tokens = ["e5f60718.token"]

# For you: what comes through its token path needs no signature (examples/seeds.sh).
[accounts.{LOCAL_ACCOUNT}]
messages = "optional"
sms = "token"
alerts = "token"
sig_method = "sha256"
signature_secrets = ["{LOCAL_ACCOUNT}.secret"]
tokens = ["{LOCAL_ACCOUNT}.token"]
"""
NAMES = ("a1b2c3d4", "e5f60718", LOCAL_ACCOUNT)


def make(data_dir: Path) -> Path:
    """The folder with every secret in it; what is missing is made. Raises LocalStackError.

    The accounts come last: who finds them finds what they name.
    """
    folder = data_dir / FOLDER
    with explained("make the secrets", folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        for name in NAMES:
            _make_file(folder / f"{name}.secret", secrets.token_hex(TOKEN_BYTES))
            _make_file(folder / f"{name}.token", secrets.token_hex(TOKEN_BYTES))
        _make_file(folder / SENDS_TOKEN_FILE, secrets.token_hex(TOKEN_BYTES))
        _make_file(folder / ACCOUNTS_FILE, ACCOUNTS)
    return folder


def local_token(data_dir: Path) -> str:
    """The token of the account for people, in the path that ``up`` prints."""
    path = data_dir / FOLDER / f"{LOCAL_ACCOUNT}.token"
    with explained("read the token", path.parent):
        return path.read_text().strip()


def _make_file(path: Path, text: str) -> None:
    """Whole or not at all, also when the power goes; nobody else can ever read it."""
    if path.exists():
        path.chmod(0o600)
        return
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    partial.replace(path)
