"""Any request gets a row of the answer table, and never the row of our own faults.

1,000 examples per family of routes; 20,000 with ``TEST_FUZZ=full``. The seed is printed, and
``TEST_FUZZ_SEED`` sets it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as examples
from hypothesis import strategies as st

from ingest.errors import ANSWERS, FAULT
from sendtrace.runtime.settings import Settings

from fakes.edge import HeldLog
from fakes.signed import (
    INBOUND,
    RECEIPT,
    STATUS,
    TOKEN,
    jwt,
    signed_form,
    signed_json,
    write_accounts,
)
from fakes.wire import running_edge

EXAMPLES = 20_000 if os.environ.get("TEST_FUZZ") == "full" else 1_000
SEED = int(os.environ.get("TEST_FUZZ_SEED") or secrets.randbelow(2**32))
ROWS = {(answer.http_status, answer.name) for answer in ANSWERS if answer is not FAULT}
STATUSES = {status for status, _ in ROWS}
SEEDS = [path.read_bytes().strip() for path in (Path(__file__).parents[1] / "data/seeds").iterdir()]
CALL = {"api": "sms", "request": "to=1&text=x", "answer": {"status": 200, "body": "<a"}}

# -- what a request is made of

_text = st.text(max_size=30)
_escapes = st.lists(
    st.sampled_from([b"%", b"%f", b"%ff", b"%zz", b"%00", b"+", b"&", b"=", b";", b"sig", b"status",
                     b"messageId", b"api-key=abcd1234", b"text", b"\xff", b"\xc3", b"a"]),
    max_size=20,
).map(b"".join)  # fmt: skip
_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_names = st.sampled_from(sorted({*RECEIPT, *INBOUND, "sig", "message_uuid", "error", "from"}))
_fields = st.dictionaries(_names | _text, _text, max_size=6).map(lambda d: {**RECEIPT, **d})
_seeds = st.sampled_from([*SEEDS, STATUS, signed_form(RECEIPT), signed_json(INBOUND)])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real payload with a piece of it replaced."""
    whole = draw(_seeds)
    at, length = draw(st.integers(0, len(whole))), draw(st.integers(0, 20))
    return whole[:at] + draw(st.binary(max_size=10)) + whole[at + length :]


_bodies = (
    st.binary(max_size=200)
    | _escapes
    | mutated()
    | st.dictionaries(_names | _text, _value, max_size=6).map(lambda d: json.dumps(d).encode())
    | _fields.map(lambda d: urlencode(d, errors="replace").encode())
    | _fields.map(lambda fields: _signed(fields))
)
_segments = st.sampled_from([TOKEN, "dlr", "status", "%2e%2e", "", "x" * 40, "\u00fc"]) | st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="?#"), max_size=20
)
_paths = st.lists(_segments, max_size=3).map(
    lambda parts: "/".join(["/webhooks", *parts]).encode("latin-1")
)
_line_bytes = st.binary(max_size=60).map(lambda b: b.translate(None, b"\r\n \x00\t"))
_headers = st.lists(
    st.sampled_from([
        b"Authorization: " + jwt(STATUS).encode(), b"Authorization: Bearer a.b.c",
        b"Authorization: Basic x", b"Content-Encoding: gzip", b"Accept: text/html",
        b"Content-Type: application/x-www-form-urlencoded; charset=UTF-8", b"Expect: nonsense",
        b"Content-Type: application/json", b"Content-Type: \xff/\xfe", b"Connection: close",
        b"Content-Type: multipart/form-data; boundary=x", b"Upgrade: websocket",
        b"Connection: Upgrade", b"Cookie: a=b", b"X-Forwarded-For: 10.0.0.1",
    ]),
    max_size=3,
)  # fmt: skip


def _signed(fields: dict[str, str]) -> bytes:
    try:
        return signed_form(fields)
    except ValueError:
        return json.dumps(fields).encode()


def message(method: bytes, target: bytes, headers: list[bytes], body: bytes | None) -> bytes:
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: x", *headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


_gets = st.builds(
    lambda path, query, headers: message(b"GET", path + b"?" + query, headers, None),
    _paths,
    _line_bytes | _escapes | _fields.map(lambda d: urlencode(d, errors="replace").encode()),
    _headers,
)
_posts = st.builds(
    lambda path, headers, body: message(b"POST", path, headers, body), _paths, _headers, _bodies
)
_others = st.builds(
    message,
    st.sampled_from([b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"PATCH", b"get", b"X"]),
    _line_bytes.map(lambda b: b"/" + b) | _paths,
    _headers,
    st.none() | st.binary(max_size=50),
)
_calls = st.dictionaries(
    st.sampled_from(["api", "request", "answer", "account", "requested_at", "send_id", "sends"]),
    _value
    | st.sampled_from(["sms", "messages", "alerts", CALL["answer"], CALL["request"], [CALL]]),
).map(lambda d: json.dumps({**CALL, **d}).encode())
_sends = st.builds(
    lambda headers, body: message(b"POST", b"/sends", headers, body),
    _headers,
    _calls
    | st.binary(max_size=100)
    | st.lists(_calls, max_size=2).map(lambda calls: b"[" + b",".join(calls) + b"]"),
)
_raw = st.binary(min_size=1, max_size=200).map(lambda data: data + b"\r\n\r\n")

FAMILIES = {"get": _gets, "post": _posts, "other": _others, "sends": _sends, "raw": _raw}


def exchange(port: int, request: bytes, seconds: float) -> tuple[int, bytes] | None:
    """Status and body of the answer, or None where none came in that time."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request)
        client.settimeout(seconds)
        received = b""
        try:
            while b"\r\n\r\n" not in received:
                more = client.recv(65536)
                if not more:
                    return None
                received += more
            head, _, body = received.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            while len(body) < int(length or 0):
                body += client.recv(65536)
        except (TimeoutError, ConnectionError):
            return None
        # What follows is another answer: CONNECT has no body, so that it was a request of its own.
        return int(head.split(b" ", 2)[1]), body[: int(length or 0)]


def check_all(family: str, port: int, count: Callable[[object], None]) -> None:
    """Runs in a thread: Hypothesis is not asynchronous, and the edge is."""

    @seed(SEED)
    @examples(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(FAMILIES[family])
    def check(request: bytes) -> None:
        # A bound on hanging, but for bytes that may be the beginning of a request.
        answer = exchange(port, request, 0.05 if family == "raw" else 60)
        if answer is None:
            assert family == "raw", "no answer"
            return
        status, body = answer
        count(status)
        assert status in STATUSES
        if status != 200 and family != "sends":
            assert (status, body.decode().strip()) in ROWS

    check()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("with_accounts", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
async def test_every_answer_is_in_the_table(
    family: str, with_accounts: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    print(f"TEST_FUZZ_SEED={SEED}, {EXAMPLES} examples of {family}")
    path = write_accounts(tmp_path, 'sms = "token"\nalerts = "optional"') if with_accounts else ""
    settings = Settings(
        partitions=3, edge_port=0, edge_internal_port=0, edge_drain_seconds=0,
        accounts_file=str(path),
    )  # fmt: skip
    statuses: Counter[object] = Counter()
    async with running_edge(settings, HeldLog()) as (public, internal):
        port = internal if family == "sends" else public
        await asyncio.to_thread(check_all, family, port, lambda status: statuses.update([status]))
    print(dict(statuses))
    assert not caplog.records, "a fault of ours, or a quotation"
    assert sum(statuses.values()) > EXAMPLES / 10
