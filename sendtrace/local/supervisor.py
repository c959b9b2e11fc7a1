"""Keeps the stack's own processes running: watches, restarts within a budget, stops in order.

A child has a session of its own, so Ctrl-C reaches only `up`; and its guardian (process.py) ends it
when `up` is gone, whatever ended that.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sendtrace.local.complaints import DIFFERS
from sendtrace.local.plan import ChildPlan
from sendtrace.local.process import Child, LocalStackError, ProcessDiffers

RESTARTS_PER_MINUTE = 5
# A death is noticed within this time; shorter would only cost idle CPU.
WATCH_SECONDS = 0.25
# Longer than a process needs to drain and flush; afterwards it is killed.
STOP_SECONDS = 15.0


class RestartBudget:
    """At most so many restarts in any window. Time is an input."""

    def __init__(self, limit: int = RESTARTS_PER_MINUTE, window_seconds: float = 60.0) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._spent: deque[float] = deque()

    def allows(self, now_seconds: float) -> bool:
        """Whether one more restart is allowed now; if so, it is counted."""
        while self._spent and self._spent[0] <= now_seconds - self._window_seconds:
            self._spent.popleft()
        if len(self._spent) >= self._limit:
            return False
        self._spent.append(now_seconds)
        return True

    @property
    def pause_seconds(self) -> float:
        """How long to wait before the restart just counted: 0, 1, 2, 4, 8 s."""
        return 2.0 ** (len(self._spent) - 2) if len(self._spent) > 1 else 0.0


class Supervisor:
    """The processes of one stack. ``say`` is told of every death and restart."""

    def __init__(
        self,
        environment: Mapping[str, str],
        logs_dir: Path,
        say: Callable[[str], None],
        on_change: Callable[[], None],
    ) -> None:
        self._environment = environment
        self._logs_dir = logs_dir
        self._say = say
        self._on_change = on_change
        self._plans: dict[str, ChildPlan] = {}
        self._running: dict[str, Child] = {}
        self._budgets: dict[str, RestartBudget] = {}
        self._restart_at: dict[str, float] = {}
        self._has_been_up = False

    def start(self, plan: ChildPlan) -> None:
        """Start a process and keep it running from now on."""
        self._plans[plan.name] = plan
        self._budgets[plan.name] = RestartBudget()
        self._spawn(plan)

    def all_are_up(self) -> None:
        """From now on a restart leaves out what was only for the start (``until_up``)."""
        self._has_been_up = True

    async def watch(self) -> None:
        """Never returns. Raises LocalStackError with a log's end when one dies too often, and at
        once with its last sentence when data differ from what it knew."""
        while True:
            for name in [name for name, child in self._running.items() if not child.running]:
                await self._bury(name)
            now = time.monotonic()
            for name in [name for name, at in self._restart_at.items() if at <= now]:
                del self._restart_at[name]
                self._spawn(self._plans[name])
            await asyncio.sleep(WATCH_SECONDS)

    async def stop(self, order: Sequence[str]) -> None:
        """Stop each in turn; returns when none is left, also if it had to be killed."""
        for name in order:
            child = self._running.pop(name, None)
            if child is not None:
                await child.stop(STOP_SECONDS)

    async def _bury(self, name: str) -> None:
        plan = self._plans[name]
        child = self._running.pop(name)
        code = await child.wait(timeout_seconds=1)
        if plan.may_finish and code == 0:
            self._say(f"{name} is done: {_last_line(child)}")
            self._on_change()
            return
        if code == DIFFERS:
            raise ProcessDiffers(f"{name} ended with exit code {code}: {_last_line(child)}")
        budget = self._budgets[name]
        if not budget.allows(time.monotonic()):
            raise LocalStackError(
                f"{name} died {RESTARTS_PER_MINUTE + 1} times in a minute, last with exit code "
                f"{code}.\n{child.log_tail()}"
            )
        wait = f" in {budget.pause_seconds:g} s" if budget.pause_seconds else ""
        self._say(f"{name} died with exit code {code}; starting it again{wait}")
        self._restart_at[name] = time.monotonic() + budget.pause_seconds

    def _spawn(self, plan: ChildPlan) -> None:
        further = () if self._has_been_up else plan.until_up
        self._running[plan.name] = Child.start(
            plan.name,
            [sys.executable, "-m", "sendtrace", *plan.arguments, *further],
            log_path=self._logs_dir / f"{plan.name}.log",
            env=self._environment,
        )
        self._on_change()

    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._running.items()}


def _last_line(child: Child) -> str:
    lines = child.log_path.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing"
