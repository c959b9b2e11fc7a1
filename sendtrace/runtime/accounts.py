"""The accounts file: whose webhooks are taken, and what proves that they are Vonage's.

    own_parameters = []                       # parameters that we added to webhook URLs: not signed
    [accounts.abcd1234]
    messages = "required"                     # "required" or "optional"
    sms = "token"                             # "required" (sig), "optional" or "token"
    alerts = "token"                          # the same
    sig_method = "sha256"                     # md5hash, md5, sha1, sha256 or sha512
    signature_secrets = ["secrets/abcd1234"]  # files, relative to this one; at most two live
    tokens = ["secrets/abcd1234.token"]       # files; the segment in /webhooks/<token>/...
    parents = ["abcd0000"]                    # accounts whose webhooks about its messages count too
    currency = "GBP"                          # of its receipts, which carry none

The edge reads all of it (:func:`parse`). The joiner reads parents and currencies alone
(:func:`terms_of`): no secret, once, at its start.

A sentence about what is wrong names account and key, and never a file's name: somebody may have
put the secret itself there. Reading it again when it changes is ``ingest/reread.py``'s.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from hmac import compare_digest
from pathlib import Path

import msgspec
from msgspec import Struct, field

from schemas.vonage.signing import Method
from sendtrace.runtime.settings import Currency, SettingsError

# One live and the next one, while the dashboard's setting is being changed.
LIVE_LIMIT = 2
# 96 bits in base64. It stands in a URL, and nothing else slows down who guesses.
TOKEN_LENGTH = 16

_account_name = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_token = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_LENGTH},128}}").fullmatch
# What the parsers read: unsigned, anybody on the way could set it.
_VONAGES_OWN = frozenset(
    [
        "sig",
        "api-key",
        "messageId",
        "msisdn",
        "to",
        "status",
        "err-code",
        "message-timestamp",
        "timestamp",
        "nonce",
        "network-code",
        "price",
        "client-ref",
        "text",
        "type",
        "data",
        "udh",
        "keyword",
        "concat",
        "concat-ref",
        "concat-total",
        "concat-part",
        "message_uuid",
    ]
)


class AccountsError(SettingsError):
    """The accounts file, or a file that it names, cannot be used (exit code 3)."""


class Policy(StrEnum):
    """What a webhook of one API must bring. The later ones here are the stricter ones."""

    OPTIONAL = "optional"  # nothing; what it brings all the same must be right
    TOKEN = "token"  # noqa: S105  # the secret path segment: for APIs that do not sign
    REQUIRED = "required"  # a signature


class Policies(Struct, frozen=True):
    """One policy per thing that a webhook can be told to be. What cannot be told apart gets the
    strictest: an Alerts receipt looks like one of the SMS API."""

    messages: Policy
    sms: Policy
    receipt: Policy  # of the SMS or the Alerts API
    unknown: Policy  # not understood


class Account(Struct, frozen=True):
    """One account, with its secrets: never print it."""

    name: str
    policies: Policies
    method: Method
    secrets: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    has_token_policy: bool

    def __repr__(self) -> str:
        return f"Account({self.name!r})"


class Accounts(Struct, frozen=True):
    """All accounts. ``strictest`` counts for a webhook that does not say whose it is."""

    by_name: Mapping[str, Account]
    own_parameters: frozenset[str]
    strictest: Policies
    secrets: Mapping[str, tuple[bytes, ...]]  # by account: the form that verify_jwt takes
    tokens: tuple[tuple[bytes, Account], ...]

    def __repr__(self) -> str:
        return f"Accounts({sorted(self.by_name)!r})"

    def of_token(self, segment: bytes) -> Account | None:
        """Whose token it is. Looks at every token, and at all of each."""
        found = None
        for token, account in self.tokens:
            if compare_digest(token, segment):
                found = account
        return found


class Terms(Struct, frozen=True):
    """What the joiner must know of accounts."""

    parents: Mapping[str, frozenset[str]]
    currencies: Mapping[str, str]


class _Account(Struct, forbid_unknown_fields=True):
    messages: Policy = Policy.REQUIRED
    sms: Policy = Policy.REQUIRED
    alerts: Policy = Policy.REQUIRED
    sig_method: Method = Method.MD5HASH  # the dashboard's default
    signature_secrets: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    currency: Currency | None = None


class _File(Struct, forbid_unknown_fields=True):
    accounts: dict[str, _Account]
    own_parameters: list[str] = field(default_factory=list)


def parse(text: str, read: Callable[[str], str]) -> Accounts:
    """The accounts of a file's text; ``read`` gives the text of a file that it names, and raises
    OSError. Raises AccountsError with a sentence."""
    given = _file(text)
    signed = sorted(_VONAGES_OWN.intersection(given.own_parameters))
    if signed:
        raise AccountsError(f"own_parameters: {signed[0]} is Vonage's own, and must be signed.")
    accounts = {name: _account(name, each, read) for name, each in given.accounts.items()}
    return Accounts(
        by_name=accounts,
        own_parameters=frozenset(given.own_parameters),
        strictest=_strictest(account.policies for account in accounts.values()),
        secrets={name: account.secrets for name, account in accounts.items()},
        tokens=_tokens(accounts.values()),
    )


def terms_of(text: str) -> Terms:
    """The same file, without its secrets. Raises AccountsError with a sentence."""
    accounts = _file(text).accounts
    return Terms(
        parents={name: frozenset(each.parents) for name, each in accounts.items() if each.parents},
        currencies={name: each.currency for name, each in accounts.items() if each.currency},
    )


def read_terms(accounts_file: str) -> Terms:
    """The terms of a file; of no file none. Raises AccountsError."""
    if not accounts_file:
        return Terms({}, {})
    return terms_of(read_accounts_text(accounts_file, lambda name: Path(name).read_text("utf-8")))


def read_accounts_text(name: str, read: Callable[[str], str]) -> str:
    """The text of the accounts file. Raises AccountsError."""
    try:
        return read(name)
    except OSError as error:
        raise AccountsError(
            f"SENDTRACE_ACCOUNTS_FILE: the file cannot be read: {error.strerror}."
        ) from None
    except ValueError:
        raise AccountsError("SENDTRACE_ACCOUNTS_FILE: the file is not text.") from None


def _file(text: str) -> _File:
    try:
        given = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise AccountsError(f"The accounts file is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise AccountsError(f"The accounts file: {error}") from None
    if not given.accounts:
        raise AccountsError("The accounts file has no [accounts.<api key>].")
    for name, account in given.accounts.items():
        _check(name, account.parents, given.accounts)
    return given


def _check(name: str, parents: list[str], accounts: Mapping[str, _Account]) -> None:
    where = f"[accounts.{name}]"
    if not _account_name(name):
        raise AccountsError(f"{where}: an account is named by its api key (A-Z a-z 0-9 _ -).")
    for number, parent in enumerate(parents, start=1):
        if parent == name:
            raise AccountsError(f"{where} parents: an account is not its own parent.")
        if parent not in accounts:
            raise AccountsError(
                f"{where} parents, number {number}: no [accounts.<api key>] has that name, and "
                "webhooks of an account that is not in the file are refused."
            )


def _account(name: str, given: _Account, read: Callable[[str], str]) -> Account:
    where = f"[accounts.{name}]"
    if given.messages is Policy.TOKEN:
        raise AccountsError(
            f'{where}: the Messages API signs; messages is "required" or "optional"'
        )
    chosen = (given.messages, given.sms, given.alerts)
    account = Account(
        name=name,
        policies=Policies(
            messages=given.messages,
            sms=given.sms,
            receipt=_stricter(given.sms, given.alerts),
            unknown=_stricter(*chosen),
        ),
        method=given.sig_method,
        secrets=_live(f"{where} signature_secrets", given.signature_secrets, read),
        tokens=_live(f"{where} tokens", given.tokens, read),
        has_token_policy=Policy.TOKEN in chosen,
    )
    if Policy.REQUIRED in chosen and not account.secrets:
        raise AccountsError(f"{where}: a signature is required, and signature_secrets has none.")
    if account.has_token_policy and not account.tokens:
        raise AccountsError(f"{where}: a token is required, and tokens has none.")
    if any(not _token(token.decode("latin-1")) for token in account.tokens):
        raise AccountsError(f"{where}: a token has {TOKEN_LENGTH} to 128 of A-Z a-z 0-9 _ -.")
    return account


def _live(where: str, files: list[str], read: Callable[[str], str]) -> tuple[bytes, ...]:
    if len(files) > LIVE_LIMIT:
        raise AccountsError(f"{where}: at most {LIVE_LIMIT} may be live, {len(files)} are named.")
    return tuple(
        read_secret(f"{where}, file {number}", name, read)
        for number, name in enumerate(files, start=1)
    )


def read_secret(where: str, name: str, read: Callable[[str], str]) -> bytes:
    """One secret of one file; white space around it is the editor's. Raises AccountsError."""
    try:
        secret = read(name).strip()
    except OSError as error:
        raise AccountsError(f"{where}: it cannot be read: {error.strerror}.") from None
    except ValueError:
        raise AccountsError(f"{where}: it is not text.") from None
    if not secret:
        raise AccountsError(f"{where}: it is empty.")
    return secret.encode()


def _tokens(accounts: Iterable[Account]) -> tuple[tuple[bytes, Account], ...]:
    found: dict[bytes, Account] = {}
    for account in accounts:
        for token in account.tokens:
            other = found.setdefault(token, account)
            if other is not account:
                raise AccountsError(
                    f"[accounts.{account.name}] and [accounts.{other.name}] have the same token."
                )
    return tuple(found.items())


_ORDER = tuple(Policy)


def _stricter(*policies: Policy) -> Policy:
    return max(policies, key=_ORDER.index)


def _strictest(policies: Iterable[Policies]) -> Policies:
    """Kind by kind, over all accounts."""
    each = list(policies)
    return Policies(
        messages=_stricter(*(one.messages for one in each)),
        sms=_stricter(*(one.sms for one in each)),
        receipt=_stricter(*(one.receipt for one in each)),
        unknown=_stricter(*(one.unknown for one in each)),
    )
