"""Accounts, and webhooks signed as Vonage signs them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

from schemas.vonage.signing import Method, sign, sign_jwt

SECRET = b"a secret of sixty-four characters, as the dashboard makes them.."
OTHER = b"another secret"
TOKEN = "tok-5Yw1Qz8Kc3" + "xVbNmA"
NOW_S = 1_738_584_900.0
ID = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
STATUS = json.dumps({"message_uuid": ID, "status": "delivered", "channel": "sms"}).encode()
RECEIPT = {
    "msisdn": "447700900000",
    "to": "Acme & Co=1",
    "messageId": "0A0000001234567B",
    "status": "delivered",
    "err-code": "0",
    "client-ref": "",
    "api-key": "abcd1234",
    "timestamp": str(int(NOW_S)),
    "nonce": "n1",
}
INBOUND = {
    "msisdn": "447700900000",
    "to": "447700900001",
    "messageId": "0B0000001234567C",
    "text": "Grüße + 5%",
    "type": "text",
    "api-key": "abcd1234",
    "timestamp": str(int(NOW_S)),
    "nonce": "n2",
}


def jwt(body: bytes, secret: bytes = SECRET, account: str = "abcd1234", **claims: object) -> str:
    """The value of an Authorization header."""
    given = {"iss": "Vonage", "api_key": account, "iat": int(NOW_S), "jti": "j", **claims}
    return "Bearer " + sign_jwt(given, body, secret)


def signed_form(
    fields: dict[str, str], secret: bytes = SECRET, method: Method = Method.SHA256
) -> bytes:
    return urlencode({**fields, "sig": sign(fields, method, secret)}).encode()


def signed_json(
    fields: dict[str, str], secret: bytes = SECRET, method: Method = Method.SHA256
) -> bytes:
    return json.dumps({**fields, "sig": sign(fields, method, secret)}).encode()


def write_accounts(directory: Path, policies: str, name: str = "abcd1234") -> Path:
    """An accounts file with two live secrets and a token; ``policies`` are lines of TOML."""
    (directory / "secrets").mkdir(exist_ok=True)
    (directory / "secrets" / name).write_bytes(SECRET + b"\n")
    (directory / "secrets" / f"{name}.next").write_bytes(b"the next secret")
    (directory / "secrets" / f"{name}.token").write_text(TOKEN)
    path = directory / "accounts.toml"
    path.write_text(
        f'own_parameters = ["customer"]\n[accounts.{name}]\n{policies}\nsig_method = "sha256"\n'
        f'signature_secrets = ["secrets/{name}", "secrets/{name}.next"]\n'
        f'tokens = ["secrets/{name}.token"]\n'
    )
    return path
