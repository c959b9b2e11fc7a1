"""Prints what the warehouse knows of some messages: ``rows.py [--port N] MESSAGE_ID ...``."""

from __future__ import annotations

import argparse
import asyncio

import asyncpg

COLUMNS = (
    "message_id", "outcome", "api", "channel", "recipient", "network_final", "cost", "currency",
    "delivered_at", "code", "flags",
)  # fmt: skip


async def fetch(port: int, message_ids: list[str]) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=port, user="sendtrace", database="sendtrace"
    )
    try:
        return await connection.fetch(
            "select * from messages where message_id = any($1) order by message_id", message_ids
        )
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=15432)
    parser.add_argument("message_ids", nargs="+")
    arguments = parser.parse_args()
    for row in asyncio.run(fetch(arguments.port, arguments.message_ids)):
        print("  ".join(f"{name}={row[name]}" for name in COLUMNS if row[name] not in (None, [])))  # noqa: T201 - that is what it is for


if __name__ == "__main__":
    main()
