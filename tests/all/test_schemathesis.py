"""The edge does what docs/openapi.json says, whatever Schemathesis sends; and that is OpenAPI 3.1.

Schemathesis is run as its users run it: the command, on the committed document, from outside. Its
seed is printed, ``TEST_FUZZ_SEED`` sets it, and its report has a curl line for each failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import ClientSession
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families

from sendtrace.runtime.settings import Settings

from fakes.edge import HeldLog
from fakes.signed import TOKEN, write_accounts
from fakes.wire import running_edge

DOCUMENT = Path(__file__).parents[2] / "docs/openapi.json"
EXAMPLES = 300  # of each operation; what the document gives by itself (its limits) comes on top
SEED = int(os.environ.get("TEST_FUZZ_SEED") or secrets.randbelow(2**32))
SENDS_TOKEN = "a-token-for-sends"
WEBHOOKS, OTHERS = "^/webhooks/", "^/(sends|livez|readyz|metrics)$"
# 503 is how the edge asks for another attempt. A call may have the right form and still be refused:
# what makes a request or an answer of Vonage's understandable is no matter of JSON types.
CONFIGURATION = """\
[checks]
not_a_server_error.expected-statuses = ["2xx", "4xx", 503]
positive_data_acceptance.enabled = false
"""


class Case(NamedTuple):
    """An accounts file, what the requests bring, and answers that must be among those given."""

    policies: str
    expected: set[str]
    path: str = ""
    webhook_bearer: str = ""
    sends_bearer: str = ""


SIGNED = 'messages = "required"\nsms = "required"\nalerts = "required"'
BY_TOKEN = 'messages = "optional"\nsms = "token"\nalerts = "token"'
CASES = {
    "nobody is asked": Case("", {"quarantined", "probe", "sends_accepted", "sends_malformed"}),
    "nothing is brought": Case(SIGNED, {"unsigned", "probe", "sends_unauthorized"}),
    "something wrong is brought": Case(
        SIGNED, {"not_a_jwt", "probe", "sends_unauthorized"},
        webhook_bearer="a.b.c", sends_bearer="another",
    ),
    "what is asked for is brought": Case(
        BY_TOKEN, {"quarantined", "probe", "sends_accepted", "sends_malformed"},
        path=TOKEN, sends_bearer=SENDS_TOKEN,
    ),
}  # fmt: skip


async def run_schemathesis(
    folder: Path, port: int, paths: str, *, bearer: str, path: str = ""
) -> None:
    """Fails with what it printed."""
    parameters = f'[parameters]\n"path.rest" = "{path}"\n' if path else ""
    (folder / "schemathesis.toml").write_text(parameters + CONFIGURATION)
    options = ["--header", f"Authorization: Bearer {bearer}"] if bearer else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml",
        "--no-color", "run", str(DOCUMENT), "--url", f"http://127.0.0.1:{port}",
        "--include-path-regex", paths, "--max-examples", str(EXAMPLES), "--seed", str(SEED),
        "--generation-database", "none", "--continue-on-failure", "--request-timeout", "10",
        *options,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    print(printed.decode())
    assert process.returncode == 0, f"see what Schemathesis printed; TEST_FUZZ_SEED={SEED}"


async def answers_given(internal: int) -> Counter[str]:
    """How often the edge gave each row of its table, as it tells itself."""
    async with (
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{internal}/metrics") as response,
    ):
        text = await response.text()
    given: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "sendtrace_edge_answers_total":
                given[sample.labels["answer"]] += int(sample.value)
    return given


def settings_of(folder: Path, policies: str) -> Settings:
    accounts = sends_token = ""
    if policies:
        accounts = str(write_accounts(folder, policies))
        sends_token = str(folder / "sends-token")
        Path(sends_token).write_text(SENDS_TOKEN)
    return Settings(
        partitions=3, edge_port=0, edge_internal_port=0, edge_drain_seconds=0,
        accounts_file=accounts, sends_token_file=sends_token,
    )  # fmt: skip


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
async def test_every_answer_conforms(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    print(f"TEST_FUZZ_SEED={SEED}")
    case = CASES[name]
    async with running_edge(settings_of(tmp_path, case.policies), HeldLog()) as ports:
        public, internal = ports
        await run_schemathesis(
            tmp_path, public, WEBHOOKS, bearer=case.webhook_bearer, path=case.path
        )
        await run_schemathesis(tmp_path, internal, OTHERS, bearer=case.sends_bearer)
        given = await answers_given(internal)
    print(dict(given))
    assert not caplog.records, "a fault of ours, or a quotation"
    assert case.expected <= given.keys(), "it did not get where it was to go"
    assert given.total() > EXAMPLES


def test_the_document_is_openapi() -> None:
    OpenAPIV31SpecValidator(json.loads(DOCUMENT.read_text())).validate()
