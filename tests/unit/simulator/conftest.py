"""Plans of a seed, and what a request says, read without the pipeline's parsers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from urllib.parse import parse_qs

import pytest

from sendtrace.local import secrets
from sendtrace.simulator.credentials import Account, read_accounts
from sendtrace.simulator.parties import ACCOUNTS
from sendtrace.simulator.traffic import Plan, Profile, next_plan
from sendtrace.simulator.webhook import Request

AT_US = 1_795_000_000_000_000


def _plans(seed: int, count: int, profile: Profile | None = None) -> list[Plan]:
    random = Random(seed)
    return [next_plan(random, AT_US + i * 50_000, profile or Profile()) for i in range(count)]


def _fields(request: Request) -> dict[str, str]:
    if request.method == "GET" or "form" in (request.content_type or ""):
        text = request.query or request.body.decode()
        return {name: values[0] for name, values in parse_qs(text, strict_parsing=True).items()}
    decoded = json.loads(request.body)
    assert isinstance(decoded, dict)
    return decoded


@pytest.fixture
def plans() -> Callable[..., list[Plan]]:
    return _plans


@pytest.fixture
def fields() -> Callable[[Request], dict[str, str]]:
    return _fields


@pytest.fixture
def accounts_file(tmp_path: Path) -> Path:
    """What `sendtrace up` makes."""
    return secrets.make(tmp_path) / secrets.ACCOUNTS_FILE


@pytest.fixture
def accounts(accounts_file: Path) -> dict[str, Account]:
    return read_accounts(accounts_file, ACCOUNTS)
