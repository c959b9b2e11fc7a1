"""What strangers do to a public port: every bound holds, and the edge goes on serving.

Both servers of the edge over the in-memory log, on real sockets.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import psutil
import pytest

from sendtrace.runtime.settings import Settings

from fakes.edge import Edge, HeldLog, edge_over
from fakes.wire import Wire
from waiting import until

MIB = 1_048_576
STATUS = b'{"message_uuid":"id-1","status":"delivered"}'
IDLE_CONNECTIONS = 10_000
# A busy machine is late, and a bound that does not hold is not met at all.
LATE_SECONDS = 10.0


def post(body: bytes, *headers: bytes) -> bytes:
    head = [b"POST /webhooks/x HTTP/1.1", b"Host: x", *headers]
    if not any(h.lower().startswith((b"content-length", b"transfer-encoding")) for h in headers):
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@pytest.fixture
def budget_seconds() -> float:
    """So long that a busy machine never uses it up: whoever waits for its end sets a short one."""
    return 30.0


@pytest.fixture
def settings(budget_seconds: float) -> Settings:
    """The bounds as they are shipped, but for the times."""
    return Settings(
        partitions=3,
        edge_port=0,
        edge_internal_port=0,
        edge_drain_seconds=0,
        edge_budget_seconds=budget_seconds,
        edge_header_seconds=1.0,
        edge_keepalive_seconds=2.0,
    )


@pytest.fixture
async def edge(settings: Settings) -> AsyncIterator[Edge]:
    async with edge_over(HeldLog(), settings) as attacked:
        yield attacked
        assert await serves(attacked)
        assert attacked.count("fault") == 0
        assert attacked.metric("sendtrace_edge_in_flight_bytes") == 0


async def serves(edge: Edge) -> bool:
    return await say(edge, post(STATUS)) == (200, b"")


def closed(edge: Edge, reason: str) -> float:
    return edge.metric("sendtrace_edge_connections_closed_total", reason=reason)


def connections(edge: Edge) -> float:
    return edge.metric("sendtrace_edge_connections")


async def say(edge: Edge, data: bytes) -> tuple[int, bytes]:
    wire = await Wire.connect(edge.public_port)
    try:
        await wire.send(data)
        return await wire.answer()
    except ConnectionError:
        return 0, b""
    finally:
        await wire.close()


# -- bodies


async def test_a_body_of_one_mebibyte_is_taken_whole(edge: Edge) -> None:
    body = b'{"message_uuid":"%b","status":"delivered","x":"' % (b"i" * 256)
    body += b"x" * (MIB - len(body) - 2) + b'"}'
    assert len(body) == MIB
    assert await say(edge, post(body)) == (200, b"")
    [entry] = edge.log.records("sendtrace.statuses")
    assert entry.value == body


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_above_the_limit(edge: Edge, chunked: bool) -> None:
    body = b"x" * (MIB + 1)
    request = post(body)
    if chunked:
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        request = post(chunks, b"Transfer-Encoding: chunked")
    assert await say(edge, request) == (413, b"too_large\n")
    assert edge.count("too_large") == 1


async def test_a_body_far_above_the_limit_is_never_held(edge: Edge) -> None:
    """1 GiB is announced or streamed; what is read of it stays below two MiB."""
    wire = await Wire.connect(edge.public_port)
    await wire.send(post(b"", b"Content-Length: 1073741824"))
    assert await wire.answer() == (413, b"too_large\n")
    await wire.close()
    before = psutil.Process().memory_info().rss
    wire = await Wire.connect(edge.public_port)
    sent = 0
    await wire.send(post(b"", b"Transfer-Encoding: chunked"))
    try:
        while sent < 200 * MIB:
            await wire.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    await wire.close()
    assert psutil.Process().memory_info().rss - before < 32 * MIB
    assert edge.count("too_large") == 2


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ((b"Content-Length: 100",), STATUS, (503, b"body_slow\n")),
        ((b"Content-Length: -1",), STATUS, (400, b"malformed\n")),
        ((b"Content-Length: 4x",), STATUS, (400, b"malformed\n")),
        ((b"Content-Length: 44", b"Content-Length: 45"), STATUS, (400, b"malformed\n")),
        (
            (b"Content-Length: 44", b"Transfer-Encoding: chunked"),
            b"0\r\n\r\n",
            (400, b"malformed\n"),
        ),
        ((b"Transfer-Encoding: chunked",), b"zz\r\nabc\r\n0\r\n\r\n", (400, b"malformed\n")),
        ((b"Transfer-Encoding: gzip",), STATUS, (400, b"malformed\n")),
    ],
)
@pytest.mark.parametrize("budget_seconds", [0.5])
async def test_a_length_that_is_wrong(
    edge: Edge, headers: tuple[bytes, ...], body: bytes, expected: tuple[int, bytes]
) -> None:
    assert await say(edge, post(body, *headers)) == expected
    assert not edge.log.records("sendtrace.statuses")


async def test_a_length_too_short_makes_the_rest_no_request(edge: Edge) -> None:
    """Cut JSON is kept as it came; what is left over is no HTTP."""
    assert await say(edge, post(STATUS, b"Content-Length: 10")) == (400, b"malformed\n")
    assert not edge.log.records("sendtrace.quarantine")  # together they are no HTTP
    wire = await Wire.connect(edge.public_port)
    await wire.send(post(STATUS[:10], b"Content-Length: 10"))
    assert await wire.answer() == (200, b"")
    await wire.send(STATUS[10:] + b"\r\n\r\n")
    assert await wire.answer() == (400, b"malformed\n")
    assert await wire.is_closed()
    await wire.close()
    [entry] = edge.log.records("sendtrace.quarantine")
    assert entry.value == STATUS[:10]


async def test_chunks_of_any_size_make_one_body(edge: Edge) -> None:
    for size in (1, 7, len(STATUS)):
        pieces = [STATUS[at : at + size] for at in range(0, len(STATUS), size)]
        body = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\nT: x\r\n\r\n"
        assert await say(edge, post(body, b"Transfer-Encoding: chunked")) == (200, b"")
    assert {e.value for e in edge.log.records("sendtrace.statuses")} == {STATUS}


@pytest.mark.parametrize("budget_seconds", [0.5])
async def test_a_chunk_that_breaks_off_in_the_middle(edge: Edge) -> None:
    """The parser says so to the next request only: this one waits out its budget."""
    wire = await Wire.connect(edge.public_port)
    await wire.send(post(b"", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
    await asyncio.sleep(0.05)
    await wire.send(b"nonsense\r\n")
    assert await wire.answer() in ((400, b"body_broken\n"), (503, b"body_slow\n"))
    await wire.close()


async def test_pipelined_requests_are_all_answered_in_order(edge: Edge) -> None:
    bodies = [b'{"message_uuid":"id-%d","status":"delivered"}' % n for n in range(300)]
    wire = await Wire.connect(edge.public_port)
    await wire.send(b"".join(map(post, bodies)) + post(b"", b"X: y").replace(b"POST", b"PUT"))
    assert [await wire.answer() for _ in bodies] == [(200, b"")] * 300
    assert await wire.answer() == (405, b"method\n")
    await wire.close()
    assert sorted(e.value or b"" for e in edge.log.records("sendtrace.statuses")) == sorted(bodies)


async def test_expect_100_continue(edge: Edge) -> None:
    wire = await Wire.connect(edge.public_port)
    await wire.send(post(b"", b"Expect: 100-continue", b"Content-Length: %d" % len(STATUS)))
    assert await wire.answer() == (100, b"")
    await wire.send(STATUS)
    assert await wire.answer() == (200, b"")
    await wire.close()
    too_large = post(b"", b"Expect: 100-continue", b"Content-Length: %d" % (MIB + 1))
    assert await say(edge, too_large) == (413, b"too_large\n")


# -- headers


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # TLS
        b"GET\r\n\r\n",
        b"GET /webhooks/x HTTP/1.1\r\nNo colon\r\n\r\n",
        b"GET /webhooks/x HTTP/1.1\r\n" + b"A: b\r\n" * 2_000 + b"\r\n",
        b"GET /webhooks/x HTTP/1.1\r\nA: " + b"b" * 20_000 + b"\r\n\r\n",
        b"GET /webhooks/x?" + b"b" * 40_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_http_or_too_much_of_it(edge: Edge, request_: bytes) -> None:
    assert await say(edge, request_) == (400, b"malformed\n")
    assert edge.count("malformed") == 1


async def test_headers_that_never_end_are_cut_off_by_size(edge: Edge) -> None:
    wire = await Wire.connect(edge.public_port)
    await wire.send(b"GET /webhooks/x HTTP/1.1\r\n")
    try:
        for number in range(40):
            await wire.send(b"A%d: " % number + b"b" * 4_000 + b"\r\n")
            await asyncio.sleep(0.001)
    except ConnectionError:
        pass
    assert await wire.is_closed()
    await wire.close()
    assert closed(edge, "headers_large") == 1


async def cut_off_after(wire: Wire, pause_seconds: float) -> float:
    """Seconds. Headers come a byte now and then: slow-loris."""
    began = time.monotonic()
    with suppress(ConnectionError):
        for byte in b"GET /webhooks/x HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100:
            await wire.send(bytes([byte]))
            await asyncio.sleep(pause_seconds)
    return time.monotonic() - began


async def test_slow_headers_are_cut_off_in_time(edge: Edge) -> None:
    wire = await Wire.connect(edge.public_port)
    assert 0.9 < await cut_off_after(wire, 0.05) < LATE_SECONDS
    await wire.close()
    assert closed(edge, "headers_slow") == 1


async def test_slow_headers_of_a_second_request_too(edge: Edge) -> None:
    wire = await Wire.connect(edge.public_port)
    await wire.send(post(STATUS))
    assert await wire.answer() == (200, b"")
    await cut_off_after(wire, 0.02)
    # One that is idle for too long is not counted.
    assert closed(edge, "headers_slow") == 1
    await wire.close()


async def test_a_silent_connection_is_closed(edge: Edge) -> None:
    silent = await Wire.connect(edge.public_port)
    kept = await Wire.connect(edge.public_port)
    await kept.send(post(STATUS))
    assert await kept.answer() == (200, b"")
    began = time.monotonic()
    assert await silent.is_closed()
    assert time.monotonic() - began < LATE_SECONDS
    assert await kept.is_closed()
    for wire in (silent, kept):
        await wire.close()


@pytest.mark.parametrize("budget_seconds", [0.5])
async def test_a_slow_body_is_answered_503_within_the_budget(edge: Edge) -> None:
    wire = await Wire.connect(edge.public_port)
    await wire.send(post(b"", b"Content-Length: 1000"))
    began = time.monotonic()

    async def drip() -> None:
        try:
            while True:
                await wire.send(b"x")
                await asyncio.sleep(0.02)
        except ConnectionError:
            return

    dripping = asyncio.ensure_future(drip())
    assert await wire.answer() == (503, b"body_slow\n")
    assert 0.4 < time.monotonic() - began < LATE_SECONDS
    assert await wire.is_closed()
    dripping.cancel()
    await asyncio.wait([dripping])
    await wire.close()


@pytest.mark.parametrize("budget_seconds", [0.5])
async def test_a_client_that_does_not_read_its_answers_is_cut_off(edge: Edge) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", edge.public_port))
        client.setblocking(False)
        batch = post(b"", b"X: y").replace(b"POST", b"GET") * 200
        began = time.monotonic()
        while time.monotonic() - began < 60:
            try:
                client.send(batch)
            except BlockingIOError:
                pass
            except ConnectionError:
                break
            await asyncio.sleep(0.001)
        assert time.monotonic() - began < 60
    assert closed(edge, "answer_slow") == 1


# -- connections


async def test_a_connection_too_many_is_told_so(settings: Settings) -> None:
    few = msgspec.structs.replace(settings, edge_connection_limit=5, edge_header_seconds=30.0)
    async with edge_over(HeldLog(), few) as edge:
        held = [await Wire.connect(edge.public_port) for _ in range(5)]
        await until(lambda: connections(edge) == 5)
        assert await say(edge, b"") == (503, b"crowded\n")
        assert edge.count("crowded") == 1
        await held[0].close()
        await until(lambda: connections(edge) == 4)
        assert await serves(edge)
        for wire in held:
            await wire.close()


IDLERS = """
import socket, sys
sockets = []
for _ in range(int(sys.argv[2])):
    sockets.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
print("connected", flush=True)
sys.stdin.read()
"""


async def test_idle_connections_stay_bounded_in_memory(settings: Settings) -> None:
    many = msgspec.structs.replace(settings, edge_header_seconds=60.0, edge_keepalive_seconds=60.0)
    async with edge_over(HeldLog(), many) as edge:
        gc.collect()
        before = psutil.Process().memory_info().rss
        # A process of its own: descriptors are limited per process.
        idlers = await asyncio.create_subprocess_exec(
            sys.executable, "-c", IDLERS, str(edge.public_port), str(IDLE_CONNECTIONS - 1),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert idlers.stdout is not None
        assert idlers.stdin is not None
        async with asyncio.timeout(60):
            assert await idlers.stdout.readline() == b"connected\n"
        # The kernel takes connections before the edge does.
        await until(lambda: connections(edge) == IDLE_CONNECTIONS - 1)
        each = (psutil.Process().memory_info().rss - before) / IDLE_CONNECTIONS
        print(f"{each / 1024:.1f} KiB for each of {IDLE_CONNECTIONS} idle connections")
        assert await serves(edge)
        assert each < 20 * 1024
        idlers.stdin.close()
        await idlers.wait()
        await until(lambda: connections(edge) <= 1)
