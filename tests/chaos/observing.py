"""Whether a fault did to the stack what it says: asked while it lasts, from outside.

A fault that nobody saw proves nothing, so the report counts injected and observed apart.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from chaos.faults import (
    Away,
    BadWeather,
    Fault,
    Killed,
    KilledDuringScrape,
    KilledInWeather,
    OffsetsDeleted,
    OffsetsMoved,
    RollingRestart,
    StateCorrupted,
    StateDropped,
    Suspended,
    SuspendedInWeather,
)
from chaos.stack import STAGES, Stack, state_dir

# A cut is seen with the next bytes, and a process may be quiet for a while.
SEEN_SECONDS = 10.0
SILENCE_SECONDS = 0.3


@dataclass(frozen=True)
class Before:
    """The stack as it was before a fault."""

    pids: dict[str, int]
    cuts: dict[str, int]

    @classmethod
    def of(cls, stack: Stack) -> Before:
        return cls(
            {part: stack.pid(part) for part in stack.parts},
            {name: link.cuts for name, link in stack.links.items()},
        )


def kills(fault: Fault) -> tuple[str, ...]:
    """The parts that get SIGKILL."""
    match fault:
        case Killed(parts):
            return parts
        case KilledInWeather(part=part) | KilledDuringScrape(part=part):
            return (part,)
        case StateDropped(part) | StateCorrupted(part) | OffsetsMoved(part):
            return (part,)
    return ()


async def is_seen(stack: Stack, fault: Fault, before: Before) -> bool:
    """Ask after ``inject``, before ``heal``."""
    match fault:
        case Killed(parts) | Away(parts):
            return not any(stack.is_alive(part) for part in parts)
        case KilledInWeather(part=part) | KilledDuringScrape(part=part):
            return not stack.is_alive(part)
        case OffsetsMoved(part) | OffsetsDeleted(part) | StateCorrupted(part):
            return not stack.is_alive(part)
        case StateDropped(part):
            return not state_dir(stack.settings, part).exists()
        case Suspended(part=part) | SuspendedInWeather(part=part):
            return await _is_stopped(stack.pid(part))
        case RollingRestart(parts):
            return all(stack.pid(part) != before.pids[part] for part in parts)
        case BadWeather():
            return await _is_weather_seen(stack, fault, before)
    raise AssertionError(f"nobody says how {fault.name!r} is seen")


async def _is_stopped(pid: int) -> bool:
    """A process that has no turn on a loaded machine stops with its next one."""
    deadline = time.monotonic() + SEEN_SECONDS
    while is_running := psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    return not is_running


async def _is_weather_seen(stack: Stack, fault: BadWeather, before: Before) -> bool:
    link, deadline = stack.links[fault.link], time.monotonic() + SEEN_SECONDS
    passed = link.passed_bytes
    while time.monotonic() < deadline:
        await asyncio.sleep(SILENCE_SECONDS)
        before_passed, passed = passed, link.passed_bytes
        if fault.weather.is_stalled:
            # What was on its way when it stalled still passes.
            is_there = link.connections > 0 and passed == before_passed
        elif fault.weather.cut_after_bytes is not None:
            is_there = link.cuts > before.cuts[fault.link]
        else:
            is_there = passed > before_passed
        if is_there:
            return True
    return False


async def recoveries(stack: Stack) -> dict[tuple[str, int], int]:
    """By process, how often it restored a task. Without those that do not answer."""
    counts = {}
    for part in STAGES:
        url = f"http://127.0.0.1:{stack.settings.port(part)}/metrics"
        try:
            timeout = aiohttp.ClientTimeout(total=3)
            async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            continue
        for family in text_string_to_metric_families(text):
            if family.name == "sendtrace_loop_recoveries":
                counts[part, stack.pid(part)] = int(sum(s.value for s in family.samples[:1]))
    return counts
