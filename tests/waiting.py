"""Waits with a bound: who reaches it is told what was waited for, and where each task stood."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

REPOSITORY = str(Path(__file__).parent.parent)

# A bound on hanging: far more than the slowest machine needs.
HANG_SECONDS = 60.0

T = TypeVar("T")


class Stuck(AssertionError):
    """Something was waited for in vain."""


async def within(seconds: float, what: str, waiting: Awaitable[T]) -> T:
    """``asyncio.wait_for``, but it ends at the bound even if what it waits for will not.

    A task that swallows its cancellation would hold up ``wait_for`` for ever.
    """
    task = asyncio.ensure_future(waiting)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise Stuck(f"waited {seconds:g} s for {what}\n{where_tasks_wait()}")
    finally:
        task.cancel()
    return task.result()


async def end(*tasks: asyncio.Task[Any] | None, seconds: float) -> None:
    """Cancel until they are done: one cancellation may be lost.

    ``inner.cancel(); await inner`` in a task loses one that comes before ``inner`` has ended: it
    goes to ``inner``, which was cancelled anyway, and the task goes on for ever. aiokafka does that
    in every rebalance (docs/aiokafka.md 27).
    """
    running = {task for task in tasks if task is not None}
    deadline = asyncio.get_running_loop().time() + seconds
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=0.05)
        for task in done:
            if not task.cancelled():
                task.exception()  # how it ended does not matter
        if running and asyncio.get_running_loop().time() > deadline:
            raise Stuck(f"not ended by cancelling it for {seconds:g} s:\n{_where(running)}")


async def until(condition: Callable[[], bool]) -> None:
    """For the condition, and never for a time."""

    async def holds() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await within(HANG_SECONDS, "a condition", holds())


def where_tasks_wait() -> str:
    """For every task that waits in this project's code: its awaits, the innermost last.

    ``Task.print_stack`` knows only the outermost.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return _where({task for task in others if any(map(_is_ours, _awaits(task)))})


def _is_ours(place: str) -> bool:
    return place.startswith(REPOSITORY) and "site-packages" not in place


def _where(tasks: set[asyncio.Task[Any]]) -> str:
    lines = ["\n  ".join([task.get_name(), *_awaits(task)]) for task in tasks]
    return "\n".join(sorted(lines))


def _awaits(task: asyncio.Task[Any]) -> list[str]:
    found: list[str] = []
    awaited: Any = task.get_coro()
    while (frame := _frame_of(awaited)) is not None:
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        awaited = _first_of(awaited, "cr_await", "gi_yieldfrom", "ag_await")
        if _frame_of(awaited) is None:
            # A context manager's generator is awaited through an object that does not show it.
            awaited = getattr(frame.f_locals.get("self"), "gen", None)
    return found


def _frame_of(awaited: Any) -> FrameType | None:
    return _first_of(awaited, "cr_frame", "gi_frame", "ag_frame")


def _first_of(thing: Any, *names: str) -> Any:
    return next((getattr(thing, name) for name in names if hasattr(thing, name)), None)
