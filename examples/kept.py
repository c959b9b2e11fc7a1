"""Prints what stands in topics that no row comes from: ``kept.py [--port N] TOPIC ...``."""

from __future__ import annotations

import argparse
import asyncio

from aiokafka import AIOKafkaConsumer

SHOWN = ("ce_type", "ce_source", "reason")


async def read(port: int, topic: str) -> list[str]:
    """A line for each record, from its headers: they tell nothing of what a message says."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=f"127.0.0.1:{port}", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        lines: list[str] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    lines.append("  ".join(f"{n}={headers[n]}" for n in SHOWN if n in headers))
        return lines
    finally:
        await consumer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=19092)
    parser.add_argument("topics", nargs="+")
    arguments = parser.parse_args()
    for topic in arguments.topics:
        for line in sorted(asyncio.run(read(arguments.port, topic))):
            print(f"{topic}: {line}")  # noqa: T201 - that is what it is for


if __name__ == "__main__":
    main()
