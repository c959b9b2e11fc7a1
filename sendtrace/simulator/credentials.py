"""How the simulator proves to be Vonage: by a JWT, by ``sig``, or by a secret path.

Reads the edge's accounts file, but by itself: what the edge misreads must not be misread here in
the same way. Every attempt is signed anew (docs/vonage.md 7 does not say that Vonage does; it is
the harder case: no two requests of one webhook are the same bytes).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from schemas.vonage.signing import Method, sign, sign_jwt
from sendtrace.runtime.settings import SettingsError
from sendtrace.simulator.webhook import Request, Webhook, request

APPLICATION = "78d335fa-323d-0114-9c3d-d6f0d48968cf"


@dataclass(frozen=True)
class Account:
    """What one account expects of its webhooks. Secrets are not shown."""

    name: str
    is_signed: Mapping[str, bool]  # by api; False: a secret path
    sig_method: Method
    secret: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)


class _Table(Struct):
    messages: Literal["required", "optional"]
    sms: Literal["required", "optional", "token"]
    alerts: Literal["required", "optional", "token"]
    sig_method: Method = Method.MD5HASH
    signature_secrets: list[str] = []
    tokens: list[str] = []


class _File(Struct):
    accounts: dict[str, _Table]


def read_accounts(path: Path, needed: tuple[str, ...]) -> dict[str, Account]:
    """The accounts of a file. Raises SettingsError where a needed one is missing or cannot be
    played, since the edge would refuse all its webhooks."""
    try:
        tables = msgspec.convert(tomllib.loads(path.read_text()), _File).accounts
        found = {name: _account(name, table, path.parent) for name, table in tables.items()}
    except (OSError, ValueError, msgspec.ValidationError) as error:
        # Only the kind of error, never what was read.
        raise SettingsError(
            f"SENDTRACE_ACCOUNTS_FILE: {path} or a file that it names cannot be used "
            f"({type(error).__name__})"
        ) from None
    for name in needed:
        if name not in found or not found[name].secret or not found[name].token:
            raise SettingsError(
                f"SENDTRACE_ACCOUNTS_FILE: the simulator plays the account {name}, which needs a "
                f"signature secret and a token in {path}; without it, do not simulate "
                "(`sendtrace up --no-simulate`)"
            )
    return found


def _account(name: str, table: _Table, folder: Path) -> Account:
    def first(files: list[str]) -> bytes:
        return (folder / files[0]).read_bytes().strip() if files else b""

    policies = {"messages": table.messages, "sms": table.sms, "alerts": table.alerts}
    return Account(
        name,
        {api: policy != "token" for api, policy in policies.items()},
        table.sig_method,
        first(table.signature_secrets),
        first(table.tokens).decode(),
    )


def prove(webhook: Webhook, account: Account | None, now_s: int, nonce: str) -> Request:
    """One attempt at this webhook. Without an account nothing is proven. Pure."""
    if account is None:
        return request(webhook)
    if not account.is_signed[webhook.api]:
        return request(webhook, token=account.token)
    if webhook.api == "messages":
        return _with_jwt(request(webhook), account, now_s, nonce)
    more = {"timestamp": str(now_s), "nonce": nonce}
    signed = {name: str(value) for name, value in webhook.fields.items()} | more
    more["sig"] = sign(signed, account.sig_method, account.secret)
    return request(webhook, more=more)


def _with_jwt(attempt: Request, account: Account, now_s: int, nonce: str) -> Request:
    claims = {
        "iat": now_s,
        "jti": nonce,
        "iss": "Vonage",
        "api_key": account.name,
        "application_id": APPLICATION,
    }
    token = sign_jwt(claims, attempt.body, account.secret)
    return replace(attempt, authorization=f"Bearer {token}")
