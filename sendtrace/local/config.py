"""Shows the settings as they are in force: value, default, and where each one came from.

Of the accounts file it shows what the joiner takes from it, never what proves who speaks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from sendtrace.runtime.accounts import read_terms
from sendtrace.runtime.settings import PREFIX, Settings, SettingsError

MASK = "****"
# Settings that hold a URL with, perhaps, a password in it.
URLS = ("postgres_dsn",)


@dataclass(frozen=True)
class Row:
    """One setting. ``value`` and ``default`` are masked where they hold a secret."""

    name: str
    value: str
    default: str
    source: Literal["default", "environment", "accounts file"]


def rows(environment: Mapping[str, str]) -> list[Row]:
    """Every setting, in the order of :class:`Settings`, and then parents and currencies of
    accounts. Does not check the values."""
    result: list[Row] = []
    for field in msgspec.structs.fields(Settings):
        name = PREFIX + field.name.upper()
        default = str(field.default)
        given = environment.get(name)
        result.append(
            Row(
                name,
                _masked(field.name, default if given is None else given),
                _masked(field.name, default),
                "default" if given is None else "environment",
            )
        )
    return result + _accounts(environment.get(f"{PREFIX}ACCOUNTS_FILE", ""))


def _accounts(file: str) -> list[Row]:
    """Nothing of a file that cannot be read: whoever uses it says why."""
    try:
        terms = read_terms(file)
    except SettingsError:
        return []
    found = {f"{name}.parents": ", ".join(sorted(of)) for name, of in terms.parents.items()}
    found |= {f"{name}.currency": currency for name, currency in terms.currencies.items()}
    return [
        Row(f"accounts.{name}", value, "", "accounts file") for name, value in sorted(found.items())
    ]


def as_text(settings: list[Row]) -> str:
    """Aligned columns; what differs from its default stands first and says so."""
    width = max(len(row.name) for row in settings)
    set_here = [row for row in settings if row.source == "environment"]
    lines = []
    if set_here:
        lines.append("Set in the environment:")
        lines += [
            f"  {row.name:<{width}}  {row.value}  (default {row.default})" for row in set_here
        ]
        lines.append("")
    lines.append("Defaults:")
    lines += [f"  {row.name:<{width}}  {row.value}" for row in settings if row.source == "default"]
    accounts = [row for row in settings if row.source == "accounts file"]
    if accounts:
        lines += ["", "Of the accounts file:"]
        lines += [f"  {row.name:<{width}}  {row.value}" for row in accounts]
    return "\n".join(lines)


def as_json(settings: list[Row]) -> str:
    return json.dumps([vars(row) for row in settings], indent=2)


def _masked(field: str, value: str) -> str:
    return masked_url(value) if field in URLS else value


def masked_url(url: str) -> str:
    """The address without its password. What is no URL is masked whole: it could be anywhere."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return MASK
    # A password with / ? or # in it ends the host too early, and stands in what comes after.
    if not parts.netloc or "@" in parts.path + parts.query + parts.fragment:
        return MASK
    if password is not None:
        user = f"{parts.username}:{MASK}@"
        parts = parts._replace(netloc=user + parts.netloc.rpartition("@")[2])
    if "password" in parts.query:
        parts = parts._replace(query=MASK)
    return urlunsplit(parts)
