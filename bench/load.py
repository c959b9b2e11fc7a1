"""Posts webhooks over keep-alive connections of its own, as cheaply as Python can.

    python -m bench.load PORT REQUESTS

Prints requests a second, the 99th percentile and the statuses as one line of JSON. Loopback only.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

from schemas.codec import encode

CONNECTIONS = 64


def message_id(number: int) -> str:
    return f"cccccccc-0000-4000-8000-{number:012d}"


def request(number: int, sender: str = "447700900001") -> bytes:
    """A v1 status of some 300 bytes with an id of its own."""
    body = (
        f'{{"message_uuid":"{message_id(number)}","to":"447700900000",'
        f'"from":"{sender}","timestamp":"2026-11-22T05:00:01Z","status":"delivered",'
        '"client_ref":"order-4711","usage":{"currency":"EUR","price":"0.0333"},"channel":"sms",'
        '"destination":{"network_code":"23410"},"sms":{"count_total":"1"}}'
    ).encode()
    return (
        b"POST /webhooks/status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


async def answer(reader: asyncio.StreamReader) -> str:
    """The status of one answer, which is read to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return head[9:12].decode()


async def connection(port: int, numbers: range, seconds: list[float], codes: Counter[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        began = time.perf_counter()
        writer.write(request(number))
        codes[await answer(reader)] += 1
        seconds.append(time.perf_counter() - began)
    writer.close()
    await writer.wait_closed()


async def main(port: int, requests: int) -> None:
    seconds: list[float] = []
    codes: Counter[str] = Counter()
    each = requests // CONNECTIONS
    began = time.perf_counter()
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for n in range(CONNECTIONS):
            group.create_task(connection(port, range(n * each, (n + 1) * each), seconds, codes))
    took = time.perf_counter() - began
    seconds.sort()
    print(
        encode(
            {
                "requests": len(seconds),
                "requests_per_second": round(len(seconds) / took),
                "p99_ms": round(seconds[int(len(seconds) * 0.99)] * 1000, 1),
                "statuses": dict(codes),
            }
        ).decode()
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
