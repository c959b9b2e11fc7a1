"""The simulator against a small edge that remembers, refuses at will, and never lies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from sendtrace.runtime.settings import Settings, SettingsError
from sendtrace.runtime.topics import DependencyAway
from sendtrace.simulator.ledger import read_ledger
from sendtrace.simulator.run import simulate
from sendtrace.simulator.traffic import Profile
from sendtrace.simulator.wire import RetryPlan, loopback_host, open_wire

FAST = Profile(compression=1000.0)


@dataclass
class Edge:
    """Both ports in one. The first ``refusals`` requests are answered with 503."""

    ledger: Path
    refusals: int = 0
    sends: list[dict[str, object]] = field(default_factory=list)
    webhooks: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)
    unannounced: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        if request.path == "/livez":
            return web.Response()
        if self.refusals > 0:
            self.refusals -= 1
            return web.Response(status=503)
        if request.path == "/sends":
            self.sends.append(await request.json())
        else:
            content_type = request.headers.get("Content-Type")
            body = await request.read()
            self.webhooks.append((request.method, request.path_qs, content_type, body))
            self._check_announced(request.query_string + body.decode())
        return web.Response()

    def _check_announced(self, payload: str) -> None:
        if not any(message_id in payload for message_id in read_ledger(self.ledger)):
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
        yield Settings(edge_port=port, edge_internal_port=port)
    finally:
        await runner.cleanup()


async def test_everything_planned_arrives_and_the_ledger_is_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    edge = Edge(path)
    async with serving(edge) as settings:
        tally = await simulate(settings, 200, 0.3, 1, path, asyncio.Event(), FAST)
    ledger = read_ledger(path)
    assert 55 <= tally.sends <= 60
    assert len(edge.sends) == tally.sends
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
