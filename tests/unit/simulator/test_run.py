"""The simulator against a small edge that remembers, refuses at will, and never lies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.topics import DependencyAway
from sendtrace.simulator.ledger import read_inbound, read_ledger
from sendtrace.simulator.run import simulate
from sendtrace.simulator.traffic import Profile
from sendtrace.simulator.wire import RetryPlan, loopback_host, open_wire

FAST = Profile(compression=1000.0)


@dataclass
class Edge:
    """Both ports in one. The first ``refusals`` requests are answered with 503, of each header
    ``Authorization`` is kept."""

    ledger: Path
    refusals: int = 0
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
            return web.Response(status=503)
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
        announced = [*read_ledger(self.ledger), *read_inbound(self.ledger)]
        if not any(message_id in payload for message_id in announced):
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
    ledger = read_ledger(path)
    inbound = read_inbound(path)
    assert 50 <= tally.sends < 60
    assert len(edge.sends) == tally.sends
    assert inbound
    assert all(inbound.values())
    assert len(edge.webhooks) == tally.webhooks > tally.sends
    assert all(entry.is_complete for entry in ledger.values())
    assert edge.unannounced == []


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
    monkeypatch.setattr(RetryPlan, "pause_seconds", lambda self, failures: 0.001)
    edge = Edge(tmp_path / "ledger.jsonl", refusals=40)
    async with serving(edge) as settings:
        tally = await simulate(settings, 200, 0.2, 1, edge.ledger, asyncio.Event(), FAST)
    assert tally.retries == 40
    assert tally.given_up == 0
    assert all(entry.is_complete for entry in read_ledger(edge.ledger).values())


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
    monkeypatch.setattr(RetryPlan, "pause_seconds", lambda self, failures: 0.001)
    edge = Edge(tmp_path / "ledger.jsonl", refusals=200)
    profile = Profile(compression=1000.0, sms_share=0.5, alerts_share=0.0)
    async with serving(edge) as settings:
        signing = msgspec.structs.replace(settings, accounts_file=str(accounts_file))
        tally = await simulate(signing, 200, 0.3, 1, edge.ledger, asyncio.Event(), profile)
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
        asyncio.get_running_loop().call_later(0.2, stopping.set)
        async with asyncio.timeout(5):
            await simulate(settings, 100, None, 1, edge.ledger, stopping, Profile(compression=0.1))
    entries = read_ledger(edge.ledger).values()
    assert entries
    assert not all(entry.is_complete for entry in entries)


async def test_an_edge_that_stays_away_is_given_up_and_never_complete(tmp_path: Path) -> None:
    retry = RetryPlan(first_pause_seconds=0.001, attempts=3)
    async with open_wire(Settings(edge_internal_port=1), retry) as wire:
        assert not await wire.record_send({})
        assert (wire.tally.sends, wire.tally.retries, wire.tally.given_up) == (0, 2, 1)


async def test_without_an_edge_it_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(DependencyAway, match="No edge answers"):
        await simulate(
            Settings(edge_internal_port=1), 1, None, 1, tmp_path / "l", asyncio.Event(), FAST
        )


def test_retry_pauses_double_up_to_a_bound() -> None:
    retry = RetryPlan(first_pause_seconds=0.2, longest_pause_seconds=5.0)
    pauses = [retry.pause_seconds(failures) for failures in (1, 2, 3, 10, 4000)]
    assert pauses == [0.2, 0.4, 0.8, 5.0, 5.0]


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
