"""The simulator against a small edge that remembers, refuses at will, and never lies."""

import asyncio
import dataclasses
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from schemas.codec import event_id
from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.topics import DependencyAway
from sendtrace.simulator import retries
from sendtrace.simulator.ledger import read_ledger
from sendtrace.simulator.requests import FILE, open_requests, read_requests
from sendtrace.simulator.retries import RetryPlan
from sendtrace.simulator.run import simulate
from sendtrace.simulator.scenario import Phase, Scenario, Shares
from sendtrace.simulator.webhook import Webhook
from sendtrace.simulator.wire import Wire, loopback_host, open_wire

from waiting import until

FAST = Scenario(compression=1000.0, longest_seconds=600)


@dataclass
class Edge:
    """Both ports in one. The first ``refusals`` requests are answered with ``refusal``, of each
    header ``Authorization`` is kept."""

    ledger: Path
    refusals: int = 0
    refusal: int = 503
    refused: list[tuple[str, str]] = field(default_factory=list)
    proofs: list[tuple[str, str]] = field(default_factory=list)
    sends: list[dict[str, object]] = field(default_factory=list)
    webhooks: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)
    unannounced: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        if request.path == "/livez":
            return web.Response()
        proof = (request.path_qs, request.headers.get("Authorization", ""))
        if self.refusals > 0:
            self.refusals -= 1
            self.refused.append(proof)
            return web.Response(status=self.refusal)
        self.proofs.append(proof)
        if request.path == "/sends":
            self.sends.append(await request.json())
        else:
            content_type = request.headers.get("Content-Type")
            body = await request.read()
            self.webhooks.append((request.method, request.path_qs, content_type, body))
            self._check_announced(request.query_string + body.decode())
        return web.Response()

    def _check_announced(self, payload: str) -> None:
        # Before anything is sent it is on disk.
        ledger = self.ledger.read_text() if self.ledger.exists() else ""
        ids = re.findall(r'"message_id":"([^"]+)"', ledger)
        if not any(message_id in payload for message_id in ids):
            self.unannounced.append(payload)


@asynccontextmanager
async def serving(edge: Edge) -> AsyncIterator[Settings]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", edge.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        # A folder without secrets, whatever `up` has made in the tree's own.
        folder = str(edge.ledger.parent)
        yield Settings(edge_port=port, edge_internal_port=port, data_dir=folder)
    finally:
        await runner.cleanup()


async def test_everything_planned_arrives_and_the_ledger_is_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    edge = Edge(path)
    async with serving(edge) as settings:
        tally = await simulate(settings, 200, 0.3, 1, path, asyncio.Event(), FAST)
    book = read_ledger(path)
    assert 50 <= tally.sends < 60
    assert len(edge.sends) == tally.sends
    assert book.inbound
    assert len(edge.webhooks) == tally.webhooks > tally.sends
    assert book.complete == book.ids
    assert edge.unannounced == []
    (run,) = book.runs
    assert (run.scenario, run.seed, run.rate, run.time_scale) == ("custom", 1, 200, 1.0)


async def test_every_request_is_in_the_log_with_its_answer(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "ledger.jsonl", refusals=5)
    async with serving(edge) as settings:
        tally = await simulate(settings, 200, 0.2, 1, edge.ledger, asyncio.Event(), FAST)
    found = read_requests(tmp_path / FILE)
    assert Counter(one.answer for one in found) == {
        "200": tally.sends + tally.webhooks, "other": 5,
    }  # fmt: skip
    taken = {one.sent.ce_id for one in found if one.answer == "200"}
    for method, target, _, body in edge.webhooks:
        path, _, query = target.partition("?")
        assert event_id(method, path, query.encode() if method == "GET" else body) in taken
    assert {i for one in found for i in one.sent.ids} >= set(read_ledger(edge.ledger).messages)


async def test_a_get_receipt_arrives_as_vonage_encodes_it(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "ledger.jsonl")
    async with serving(edge) as settings:
        await simulate(settings, 200, 0.2, 1, edge.ledger, asyncio.Event(), FAST)
    gets = [webhook for webhook in edge.webhooks if webhook[0] == "GET"]
    assert gets
    for _, path, content_type, body in gets:
        assert "message-timestamp=20" in path
        assert "%3A" in path  # a colon is encoded, and not encoded twice
        assert "%25" not in path
        assert (content_type, body) == (None, b"")


async def test_what_is_refused_comes_again_until_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPlan, "pause_seconds", lambda self, failures, divisor: 0.001)
    edge = Edge(tmp_path / "ledger.jsonl", refusals=40)
    async with serving(edge) as settings:
        tally = await simulate(settings, 200, 0.2, 1, edge.ledger, asyncio.Event(), FAST)
    assert tally.retries == 40
    assert tally.given_up == 0
    assert read_ledger(edge.ledger).cut_short == set()


async def test_beside_a_stack_it_signs_with_what_the_stack_made(
    tmp_path: Path, accounts_file: Path
) -> None:
    edge = Edge(tmp_path / "ledger.jsonl")
    async with serving(edge) as settings:
        assert accounts_file == Path(settings.data_dir) / "secrets" / "accounts.toml"
        await simulate(settings, 200, 0.2, 1, edge.ledger, asyncio.Event(), FAST)
    bearer = f"Bearer {(accounts_file.parent / 'sends.token').read_text()}"
    assert {proof for path, proof in edge.proofs if path == "/sends"} == {bearer}
    assert all(proof for path, proof in edge.proofs if path == "/webhooks/status")


async def test_each_attempt_is_signed_anew(
    tmp_path: Path, accounts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPlan, "pause_seconds", lambda self, failures, divisor: 0.001)
    edge = Edge(tmp_path / "ledger.jsonl", refusals=200)
    scenario = Scenario(compression=1000.0, longest_seconds=600, shares=Shares(sms=0.5, alerts=0.0))
    async with serving(edge) as settings:
        signing = msgspec.structs.replace(settings, accounts_file=str(accounts_file))
        tally = await simulate(signing, 200, 0.3, 1, edge.ledger, asyncio.Event(), scenario)
    assert (tally.retries, tally.given_up) == (200, 0)
    attempts = [proof for proof in edge.refused + edge.proofs if proof[0] != "/sends"]
    tokens = [token for _, token in attempts if token]
    assert len(tokens) > 50
    assert len(set(tokens)) == len(tokens)
    signed = [path for path, _ in attempts if "&sig=" in path]
    assert signed
    assert len(set(signed)) == len(signed)


async def test_sends_bring_the_token_that_the_edge_asks_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    edge = Edge(tmp_path / "ledger.jsonl")
    async with serving(edge) as settings:
        given = msgspec.structs.replace(settings, sends_token_file=str(tmp_path / "token"))
        await simulate(given, 200, 0.1, 1, edge.ledger, asyncio.Event(), FAST)
    assert {token for path, token in edge.proofs if path == "/sends"} == {"Bearer abc"}
    # And nobody else is told.
    assert {token for path, token in edge.proofs if path != "/sends"} == {""}


async def test_a_token_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    settings = Settings(sends_token_file=str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match="SENDTRACE_SENDS_TOKEN_FILE"):
        await simulate(settings, 1, None, 1, tmp_path / "l", asyncio.Event(), FAST)


async def test_stopping_cuts_short_and_the_ledger_says_so(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "ledger.jsonl")
    stopping = asyncio.Event()
    async with serving(edge) as settings:
        run = simulate(settings, 100, None, 1, edge.ledger, stopping, Scenario())
        simulating = asyncio.create_task(run)
        await until(lambda: len(edge.sends) > 5)
        stopping.set()
        await asyncio.wait_for(simulating, 60)
    book = read_ledger(edge.ledger)
    assert book.messages
    assert book.cut_short


@asynccontextmanager
async def wire_to(settings: Settings, tmp_path: Path, divisor: float = 1.0) -> AsyncIterator[Wire]:
    with open_requests(tmp_path / FILE) as log:
        async with open_wire(settings, log, divisor) as wire:
            yield wire


STATUS = Webhook("id-1", "a1b2c3d4", "messages", "status", "json", 0.0, {"message_uuid": "id-1"})


async def test_an_edge_that_stays_away_is_given_up_and_never_complete(tmp_path: Path) -> None:
    # 24 hours in a third of a second.
    away = Settings(edge_port=1, edge_internal_port=1, data_dir=str(tmp_path))
    async with wire_to(away, tmp_path, 250_000) as wire:
        assert not await wire.call_webhook(STATUS)
        assert (wire.tally.webhooks, wire.tally.given_up) == (0, 1)
        assert 1 <= wire.tally.retries <= 7
    assert {one.answer for one in read_requests(tmp_path / FILE)} == {"cut"}


@pytest.mark.parametrize(("refusal", "attempts"), [(401, 1), (413, 1), (429, 2), (500, 2)])
async def test_only_429_and_5xx_come_again(tmp_path: Path, refusal: int, attempts: int) -> None:
    edge = Edge(tmp_path / "ledger.jsonl", refusals=1, refusal=refusal)
    async with serving(edge) as settings, wire_to(settings, tmp_path, 1000) as wire:
        assert await wire.call_webhook(STATUS) == (attempts == 2)
        assert wire.tally.given_up == 2 - attempts
    assert len(edge.refused) + len(edge.proofs) == attempts


async def test_where_vonage_does_not_get_through_nothing_is_requested(tmp_path: Path) -> None:
    edge = Edge(tmp_path / "ledger.jsonl")
    outage = Phase(from_seconds=0, to_seconds=1.5, is_reachable=False)
    scenario = msgspec.structs.replace(FAST, phases=(outage,))
    began = time.monotonic()
    async with serving(edge) as settings:
        run = simulate(settings, 100, 0.2, 1, edge.ledger, asyncio.Event(), scenario)
        simulating = asyncio.create_task(run)
        await until(lambda: bool(edge.sends))
        assert edge.webhooks == []
        tally = await simulating
    assert time.monotonic() - began > 1.5
    assert tally.retries > tally.webhooks > 0
    assert read_ledger(edge.ledger).cut_short == set()


async def test_without_an_edge_it_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(DependencyAway, match="No edge answers"):
        await simulate(
            Settings(edge_internal_port=1), 1, None, 1, tmp_path / "l", asyncio.Event(), FAST
        )


@pytest.mark.parametrize(
    ("webhook", "pauses", "hours"),
    [
        (STATUS, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900], 24),
        (dataclasses.replace(STATUS, api="sms", kind="delivery-receipt"), [60] * 10, 72),
        (dataclasses.replace(STATUS, api="alerts", kind="delivery-receipt"), [60] * 10, 72),
        (dataclasses.replace(STATUS, api="sms", kind="inbound"), [60] * 10, 24),
    ],
)
def test_vonage_tries_again_by_its_documents(
    webhook: Webhook, pauses: list[float], hours: int
) -> None:
    plan = retries.plan_of(webhook)
    assert [plan.pause_seconds(failures) for failures in range(1, 11)] == pauses
    assert plan.for_seconds == hours * 3600
    assert plan.pause_seconds(4000) == pauses[-1]
    assert plan.pause_seconds(1, 10) == pauses[0] / 10
    assert plan.pause_seconds(1, 1e9) == retries.SHORTEST_PAUSE_SECONDS


@pytest.mark.parametrize(
    ("bind", "called"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
    ],
)
def test_it_calls_loopback(bind: str, called: str) -> None:
    assert loopback_host(bind) == called


@pytest.mark.parametrize("bind", ["10.0.0.5", "203.0.113.9", "vonage.example", ""])
def test_it_refuses_every_other_machine(bind: str) -> None:
    with pytest.raises(SettingsError, match="only talks to this machine"):
        loopback_host(bind)
