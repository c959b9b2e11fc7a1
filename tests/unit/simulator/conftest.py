"""Plans of a seed, and what a request says, read without the pipeline's parsers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random
from urllib.parse import parse_qs

import pytest

from sendtrace.local import secrets
from sendtrace.simulator.credentials import Account, read_accounts
from sendtrace.simulator.parties import ACCOUNTS
from sendtrace.simulator.plan import Plan
from sendtrace.simulator.scenario import Scenario, load
from sendtrace.simulator.traffic import next_plan
from sendtrace.simulator.webhook import Request

AT_US = 1_795_000_000_000_000


def _plans(
    seed: int, count: int, scenario: Scenario | str | None = None, time_scale: float = 1.0
) -> list[Plan]:
    if isinstance(scenario, Scenario):
        return _made(seed, count, scenario, time_scale)
    return _known(seed, count, scenario, time_scale)


@lru_cache(32)
def _known(seed: int, count: int, name: str | None, time_scale: float) -> list[Plan]:
    return _made(seed, count, load(name) if name else Scenario(compression=10), time_scale)


def _made(seed: int, count: int, scenario: Scenario, time_scale: float) -> list[Plan]:
    random = Random(seed)
    return [
        next_plan(random, AT_US + i * 50_000, scenario, i * 0.05, time_scale) for i in range(count)
    ]


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
