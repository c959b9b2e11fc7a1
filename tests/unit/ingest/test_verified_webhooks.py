"""Verification over HTTP: what is stored under whose name, answered, and told to nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import pytest
from aiohttp import ClientSession

from ingest.app import serve
from ingest.handlers import without_token
from ingest.reread import reread_accounts
from schemas.codec import arrival, header
from sendtrace.runtime.accounts import Accounts
from sendtrace.runtime.settings import Settings, SettingsError

from fakes.edge import Edge, HeldLog
from fakes.signed import NOW_S, OTHER, RECEIPT, STATUS, TOKEN, jwt, signed_form, write_accounts

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def load(directory: Path, policies: str) -> Accounts:
    reread = reread_accounts(Settings(accounts_file=str(write_accounts(directory, policies))))
    assert reread is not None
    return reread.value


@pytest.fixture
def strict(edge: Edge, tmp_path: Path) -> Edge:
    edge.given.accounts = load(tmp_path, 'sms = "token"\nalerts = "token"')
    edge.given.now_us = lambda: int(NOW_S * 1_000_000)
    return edge


async def post(edge: Edge, path: str, data: bytes, **headers: str) -> int:
    async with edge.session.post(edge.public + path, data=data, headers=headers) as response:
        return response.status


async def test_a_signed_status_is_stored_under_its_account(strict: Edge) -> None:
    assert await post(strict, "/webhooks/status", STATUS, Authorization=jwt(STATUS)) == 200
    [entry] = strict.log.records("sendtrace.statuses")
    assert entry.value == STATUS
    assert header(entry.headers, "ce_source") == "//abcd1234/webhooks/status"
    assert header(entry.headers, "ce_verified") == "jwt"
    assert arrival(entry.headers, 0).account == "abcd1234"
    assert strict.count("accepted", account="abcd1234") == 1
    labels = {"account": "abcd1234", "api": "messages"}
    name = "sendtrace_edge_last_verified_timestamp_seconds"
    assert strict.registry.get_sample_value(name, labels) == NOW_S
    assert strict.registry.get_sample_value("sendtrace_edge_verify_seconds_count") == 1


@pytest.mark.parametrize(
    ("authorization", "status", "answer", "account"),
    [
        (None, 503, "unsigned", ""),
        (jwt(STATUS, OTHER), 503, "wrong_signature", "abcd1234"),
        (jwt(STATUS, account="447700900999"), 503, "unknown_account", ""),
        (jwt(STATUS + b" "), 401, "body_mismatch", "abcd1234"),
        ("Bearer x", 401, "not_a_jwt", ""),
    ],
)
async def test_what_is_not_verified_is_refused_and_not_stored(
    strict: Edge, authorization: str | None, status: int, answer: str, account: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    assert await post(strict, "/webhooks/status", STATUS, **headers) == status
    assert (strict.count(answer, account=account), strict.stored()) == (1, 0)


async def test_a_stale_one_goes_to_quarantine_under_its_account(strict: Edge) -> None:
    old = jwt(STATUS, iat=int(NOW_S) - 26 * 3600)
    assert await post(strict, "/webhooks/status", STATUS, Authorization=old) == 200
    [entry] = strict.log.records("sendtrace.quarantine")
    assert header(entry.headers, "reason") == "stale"
    assert header(entry.headers, "ce_type") == "com.sendtrace.quarantine.v1"
    assert (header(entry.headers, "ce_verified"), entry.value) == ("jwt", STATUS)
    assert strict.count("quarantined", reason="stale", account="abcd1234") == 1


async def test_the_token_proves_and_appears_nowhere(
    strict: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    body = urlencode(RECEIPT).encode()
    assert await post(strict, f"/webhooks/{TOKEN}/dlr", body, **FORM) == 200
    assert await post(strict, f"/webhooks/{TOKEN}", body, **FORM) == 200
    assert await post(strict, f"/webhooks/{TOKEN}/", b"{}") == 200
    async with strict.session.get(f"{strict.public}/webhooks/{TOKEN}/dlr?" + body.decode()) as got:
        assert got.status == 200
    wrong = TOKEN[:-1] + "X"
    assert await post(strict, f"/webhooks/{wrong}/dlr", body, **FORM) == 503
    # Yesterday's token on a webhook that proves itself otherwise.
    headers = {"Authorization": jwt(STATUS)}
    assert await post(strict, f"/webhooks/{wrong}/s", STATUS, **headers) == 200
    entries = [e for log in strict.log.entries.values() for e in log]
    sources = sorted({str(header(e.headers, "ce_source")) for e in entries})
    assert sources == [
        "//abcd1234/webhooks", "//abcd1234/webhooks/*/s", "//abcd1234/webhooks/dlr",
    ]  # fmt: skip
    async with strict.session.get(f"{strict.internal}/metrics") as response:
        shown = await response.text() + caplog.text + repr(entries)
    assert TOKEN not in shown
    assert wrong not in shown


async def test_a_body_that_names_another_account_is_counted(strict: Edge) -> None:
    body = urlencode({**RECEIPT, "api-key": "447700900999"}).encode()
    assert await post(strict, f"/webhooks/{TOKEN}/dlr", body, **FORM) == 200
    [entry] = strict.log.records("sendtrace.receipts")
    assert arrival(entry.headers, 0).account == "abcd1234"
    assert strict.registry.get_sample_value("sendtrace_edge_account_differs_total") == 1


async def test_a_query_with_a_jwt_for_no_body_is_not_signed(strict: Edge) -> None:
    query = urlencode(RECEIPT)
    headers = {"Authorization": jwt(b"")}
    url = f"{strict.public}/webhooks/dlr?{query}"
    for method in ("GET", "POST"):
        async with strict.session.request(method, url, headers=headers) as response:
            assert response.status == 401
    assert strict.stored() == 0


async def test_a_probe_needs_no_proof(strict: Edge) -> None:
    async with strict.session.get(f"{strict.public}/webhooks/{TOKEN}/dlr") as response:
        assert response.status == 200
    assert strict.count("probe") == 1


@pytest.mark.parametrize(
    ("path", "holds", "shown"),
    [
        ("/webhooks", False, "/webhooks"),
        ("/webhooks/dlr", False, "/webhooks/dlr"),
        (f"/webhooks/{TOKEN}", True, "/webhooks"),
        (f"/webhooks/{TOKEN}/", True, "/webhooks"),
        (f"/webhooks/{TOKEN}/a/b", True, "/webhooks/a/b"),
        (f"/webhooks/a/{TOKEN}", False, f"/webhooks/a/{TOKEN}"),
        ("/webhooks/delivery-receipt", False, "/webhooks/delivery-receipt"),
        ("/webhooks/delivery-receipts/a", False, "/webhooks/delivery-receipts/a"),
        ("/webhooks/" + "x" * 16 + "/a", False, "/webhooks/*/a"),
        ("/webhooks/" + "\u00fc" * 16, False, "/webhooks/*"),
    ],
)
def test_without_token(tmp_path: Path, path: str, holds: bool, shown: str) -> None:
    holder, found = without_token(path, load(tmp_path, ""))
    assert (holder is not None, found) == (holds, shown)


def test_without_accounts_paths_stay_as_they_are() -> None:
    assert without_token(f"/webhooks/{TOKEN}/a", None) == (None, f"/webhooks/{TOKEN}/a")


async def test_the_start_is_refused_where_everybody_could_forge(settings: Settings) -> None:
    for address in ("0.0.0.0", "::", "10.0.0.1", "edge.example"):
        open_to_all = msgspec.structs.replace(settings, bind_address=address)
        with pytest.raises(SettingsError, match="SENDTRACE_ACCOUNTS_FILE"):
            await serve(open_to_all, HeldLog(), asyncio.Event())


async def test_a_mended_secret_lets_in_what_was_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, the file is mended, 200: within seconds, and marked as late by our fault."""
    monkeypatch.setattr("ingest.beside.POLL_SECONDS", 0.02)
    path = write_accounts(tmp_path, "")
    (tmp_path / "secrets" / "abcd1234").write_bytes(OTHER)
    settings = msgspec.structs.replace(settings, accounts_file=str(path))
    log, stopping = HeldLog(), asyncio.Event()
    ports: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(
        serve(settings, log, stopping, lambda *bound: ports.set_result(bound))
    )
    public, internal = await asyncio.wait_for(ports, 60)
    headers = {"Authorization": jwt(STATUS, iat=int(time.time()))}
    async with ClientSession() as session:

        async def post() -> int:
            url = f"http://127.0.0.1:{public}/webhooks/status"
            async with session.post(url, data=STATUS, headers=headers) as response:
                return response.status

        async def until_shown(line: str) -> str:
            async with asyncio.timeout(60):
                while True:
                    async with session.get(f"http://127.0.0.1:{internal}/metrics") as response:
                        if line in (shown := await response.text()):
                            return shown
                    await asyncio.sleep(0.01)

        assert await post() == 503
        write_accounts(tmp_path, "")
        await until_shown('sendtrace_edge_reloads_total{file="accounts",result="used"} 1.0')
        assert await post() == 200
        (tmp_path / "accounts.toml").write_text("[accounts")
        shown = await until_shown('sendtrace_edge_file_broken{file="accounts"} 1.0')
        assert await post() == 200
    stopping.set()
    await asyncio.wait_for(task, 60)
    assert 'sendtrace_edge_reloads_total{file="accounts",result="used"} 1.0' in shown
    first, second = log.records("sendtrace.statuses")
    assert header(first.headers, "ce_afterrefusal") == "true"
    assert header(second.headers, "ce_afterrefusal") == "true"


async def test_sig_over_http(strict: Edge) -> None:
    assert await post(strict, "/webhooks/dlr", signed_form(RECEIPT), **FORM) == 200
    [entry] = strict.log.records("sendtrace.receipts")
    assert header(entry.headers, "ce_verified") == "sig"
