"""Does a fault to a stack, and sees whether the stack works: for tests of faults."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg

from chaos.faults import Fault
from chaos.stack import Stack, start_again

# A bound on hanging, and no claim: a machine that others use takes many times what it needs.
SEEN_SECONDS = 90.0


@contextlib.asynccontextmanager
async def done_to(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """Injected here, healed at the end also when what should be seen was not."""
    assert fault.name
    try:
        await fault.inject(stack)
        yield
    finally:
        await fault.heal(stack)
    for part in stack.parts:
        # A fault may end others than its part; whoever drives a stack starts them again.
        await start_again(stack, part)


async def until(
    seen: Callable[[], Awaitable[bool]], what: str, seconds: float = SEEN_SECONDS
) -> None:
    deadline = time.monotonic() + seconds
    while not await seen():
        assert time.monotonic() < deadline, f"never seen: {what}"
        await asyncio.sleep(0.1)


async def rows(stack: Stack) -> int:
    database = await asyncpg.connect(stack.settings.postgres_dsn, timeout=5)
    try:
        return int(await database.fetchval("select count(*) from messages"))
    finally:
        await database.close()


async def flows(stack: Stack, seconds: float = SEEN_SECONDS) -> None:
    """Until a message that was sent after now is in the warehouse: every hop works."""
    before: int | None = None

    async def is_more() -> bool:
        nonlocal before
        try:
            now = await rows(stack)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False  # PostgreSQL recovers just now
        if before is None:
            before = now
        return now > before

    await until(is_more, "new rows in the warehouse", seconds)
