"""The public port: every row of the answer table, and bytes that arrive in Kafka unchanged."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber
from yarl import URL

from ingest import errors
from ingest.app import without_content
from ingest.body import split_target
from schemas.codec import header
from schemas.topics import partition_of
from schemas.vonage.reasons import Reason

from fakes.edge import Edge
from waiting import until

SEEDS = Path(__file__).parents[2] / "data" / "seeds"
STATUS = (SEEDS / "messages_v1_status.json").read_bytes()
KEY = b"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"


async def raw_request(edge: Edge, request: bytes) -> bytes:
    """The answer to bytes that no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.public_port)
    writer.write(request)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("path", ["/webhooks", "/webhooks/", "/webhooks/a/status/"])
async def test_a_status_is_stored_unchanged_under_its_id(edge: Edge, path: str) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    async with edge.session.post(edge.public + path, data=STATUS, headers=headers) as response:
        assert (response.status, await response.read()) == (200, b"")
    [entry] = edge.log.records("sendtrace.statuses", partition_of(KEY, 3))
    assert (entry.key, entry.value) == (KEY, STATUS)
    assert header(entry.headers, "ce_type") == "com.vonage.messages.status.v1"
    assert header(entry.headers, "ce_source") == path
    assert header(entry.headers, "ce_verified") == "none"
    assert header(entry.headers, "content-type") == "application/json; charset=utf-8"
    assert edge.count("accepted") == 1


async def test_a_get_receipt_is_stored_as_its_query(edge: Edge) -> None:
    query = (SEEDS / "receipt_query.txt").read_bytes()
    await raw_request(edge, b"GET /webhooks/dlr?" + query + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    [entry] = edge.log.records("sendtrace.receipts")
    assert (entry.key, entry.value) == (b"000000FFFB0356D2", query)
    assert header(entry.headers, "content-type") == "application/x-www-form-urlencoded"


async def test_a_repeat_gets_the_same_event_id(edge: Edge) -> None:
    for _ in range(2):
        await edge.session.post(f"{edge.public}/webhooks/x", data=STATUS)
    first, second = edge.log.records("sendtrace.statuses")
    assert header(first.headers, "ce_id") == header(second.headers, "ce_id")


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"not JSON", "application/json", Reason.NOT_JSON),
        (b"\xff\xfe\x00", "text/plain; charset=\xff", Reason.CONTENT_TYPE),
        (b"messageId=%zz%&&&=%F", "application/x-www-form-urlencoded", Reason.NO_STATUS),
        (b"", "application/json", Reason.EMPTY),
        (b"[" * 9_000, "application/json", Reason.NOT_AN_OBJECT),
        (b'{"a":' * 1_500, "application/json", Reason.NOT_JSON),
        (b'{"message_uuid":"id-1"}', "application/json", Reason.NO_STATUS),
    ],
)
async def test_what_is_not_understood_is_kept_whole_and_gets_200(
    edge: Edge, body: bytes, content_type: str, reason: Reason
) -> None:
    head = f"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: {content_type}\r\n\r\n"
    assert b" 200 " in await raw_request(edge, head.encode("latin-1") + body)
    [entry] = edge.log.records("sendtrace.quarantine")
    assert (entry.key, entry.value) == (None, body)
    assert header(entry.headers, "reason") == reason.value
    assert edge.count("quarantined", reason=reason.value) == 1


@pytest.mark.parametrize("path", ["/webhooks/x", "/webhooks/", "/webhooks/x?"])
async def test_a_get_without_parameters_is_a_probe(edge: Edge, path: str) -> None:
    async with edge.session.get(edge.public + path) as response:
        assert response.status == 200
    assert (edge.count("probe"), edge.stored()) == (1, 0)


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("POST", "/", errors.NOT_FOUND),
        ("POST", "/webhook", errors.NOT_FOUND),
        ("POST", "/webhooksx", errors.NOT_FOUND),
        ("POST", "/sends", errors.NOT_FOUND),
        ("PUT", "/webhooks/x", errors.METHOD),
        ("DELETE", "/webhooks/x", errors.METHOD),
    ],
)
async def test_other_paths_and_methods(
    edge: Edge, method: str, path: str, answer: errors.Answer
) -> None:
    async with edge.session.request(method, edge.public + path, data=STATUS) as response:
        assert response.status == answer.http_status
    assert (edge.count(answer.name), edge.stored()) == (1, 0)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_above_the_limit(edge: Edge, chunked: bool) -> None:
    async with edge.session.post(
        f"{edge.public}/webhooks/x", data=b"x" * 10_001, chunked=chunked or None
    ) as response:
        assert response.status == 413
    assert (edge.count("too_large"), edge.stored()) == (1, 0)


async def test_a_declared_length_above_the_limit_is_not_read(edge: Edge) -> None:
    head = b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10001\r\n\r\n"
    assert b" 413 " in await raw_request(edge, head)


@pytest.mark.parametrize("budget_seconds", [0.2])
async def test_a_body_that_does_not_come_is_not_waited_for(edge: Edge) -> None:
    head = b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf"
    assert b" 503 " in await raw_request(edge, head)
    assert (edge.count("body_slow"), edge.publisher.in_flight.bytes) == (1, 0)


async def test_a_body_in_pieces_is_put_together(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.public_port)
    writer.write(
        b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(STATUS)
    )
    assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    for start in range(0, len(STATUS), 100):
        writer.write(STATUS[start : start + 100])
        await asyncio.sleep(0.001)
    assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    writer.close()
    await writer.wait_closed()
    assert edge.log.records("sendtrace.statuses")[0].value == STATUS


async def test_a_connection_that_ends_within_the_body(edge: Edge) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", edge.public_port)
    writer.write(b"POST /webhooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf")
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    await until(lambda: edge.count("body_broken") > 0)
    assert (edge.count("body_broken"), edge.count("body_slow"), edge.stored()) == (1, 0, 0)


@pytest.mark.parametrize("budget_seconds", [0.2])
async def test_no_acknowledgement_within_the_budget(edge: Edge) -> None:
    edge.log.acknowledging.clear()
    started = asyncio.get_running_loop().time()
    async with edge.session.post(f"{edge.public}/webhooks/x", data=STATUS) as response:
        assert response.status == 503
    assert 0.15 < asyncio.get_running_loop().time() - started < 10
    assert edge.count("kafka_slow") == 1
    # It may still be written, and so it stays charged until the batch is resolved.
    assert edge.publisher.in_flight.bytes > len(STATUS)
    edge.log.acknowledging.set()
    await until(lambda: edge.publisher.in_flight.bytes == 0)
    assert edge.stored() == 1


async def test_a_failed_producer(edge: Edge) -> None:
    edge.log.failing.append(OutOfOrderSequenceNumber())
    async with edge.session.post(f"{edge.public}/webhooks/x", data=STATUS) as response:
        assert response.status == 503
    assert edge.count("kafka_failed") == 1
    async with edge.session.post(f"{edge.public}/webhooks/x", data=STATUS) as response:
        assert response.status == 200


@pytest.mark.parametrize("budget_seconds", [0.2])
async def test_too_many_bytes_in_flight_is_said_at_once(edge: Edge) -> None:
    edge.log.acknowledging.clear()
    big = b"x" * 9_000
    posts = [edge.session.post(f"{edge.public}/webhooks/x", data=big) for _ in range(9)]
    answers = await asyncio.gather(*posts)
    assert [answer.status for answer in answers] == [503] * 9
    assert (edge.count("in_flight_full"), edge.count("kafka_slow")) == (4, 5)
    assert edge.publisher.in_flight.bytes <= 50_000


async def test_draining(edge: Edge) -> None:
    edge.given.closing = True
    async with edge.session.post(f"{edge.public}/webhooks/x", data=STATUS) as response:
        assert (response.status, response.headers["Connection"]) == (200, "close")
    edge.given.draining = True
    async with edge.session.post(f"{edge.public}/webhooks/x", data=STATUS) as response:
        assert response.status == 503
    assert edge.count("draining") == 1


async def test_nothing_of_a_request_is_logged(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("aiohttp.server").addFilter(without_content)
    caplog.set_level(logging.DEBUG)
    secret = "447700900999"
    try:
        await raw_request(edge, f"GET /webhooks/x?msisdn={secret} HTTP/9\r\n\r\n".encode())
        await raw_request(
            edge, f"GET /webhooks/x?msisdn={secret} HTTP/1.1\r\nBad\x00{secret}: 1\r\n\r\n".encode()
        )
        await edge.session.get(f"{edge.public}/webhooks/x?msisdn={secret}")
        edge.log.failing.append(OutOfOrderSequenceNumber())
        await edge.session.post(f"{edge.public}/webhooks/x", data=b"messageId=" + secret.encode())
    finally:
        logging.getLogger("aiohttp.server").removeFilter(without_content)
    assert caplog.records
    assert secret not in caplog.text


async def test_odd_request_targets_never_break(edge: Edge) -> None:
    for target in (b"/webhooks/\xff?\xff=\xfe", b"http://host/webhooks/x?a=b", b"/webhooks/%zz?%"):
        answer = await raw_request(edge, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in answer or b" 400 " in answer, target
    async with edge.session.get(URL(f"{edge.public}/webhooks/%ff?%ff", encoded=True)) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/webhooks/x?a=b&c=%20+", "/webhooks/x", b"a=b&c=%20+"),
        ("/webhooks/x?a=b#c", "/webhooks/x", b"a=b"),
        ("/webhooks/\udcff?\udcff", "/webhooks/?", b"\xff"),
        ("http://host:1/webhooks/x?a=b", "/webhooks/x", b"a=b"),
        ("*", "/", b""),
        ("/" + "x" * 300, "/" + "x" * 255, b""),
    ],
)
def test_split_target(target: str, path: str, query: bytes) -> None:
    assert split_target(target) == (path, query)
