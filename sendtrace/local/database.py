"""How large the warehouse is, for the live table."""

from __future__ import annotations

import time

import asyncpg

# It grows slowly, and asking costs PostgreSQL a look at every file.
ASK_SECONDS = 10.0
TIMEOUT_SECONDS = 1.0


class Database:
    """Asks now and then; in between, and while PostgreSQL is away, what it said last holds."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._bytes: int | None = None
        self._ask_at = 0.0

    async def size_bytes(self) -> int | None:
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_SECONDS
            self._bytes = await self._asked() or self._bytes
        return self._bytes

    async def _asked(self) -> int | None:
        try:
            connection = await asyncpg.connect(self._dsn, timeout=TIMEOUT_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return None  # the loader says what is wrong with it
        try:
            size: int = await connection.fetchval(
                "select pg_database_size(current_database())", timeout=TIMEOUT_SECONDS
            )
            await connection.close(timeout=TIMEOUT_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return None
        finally:
            connection.terminate()  # one that does not answer does not say goodbye either
        return size
