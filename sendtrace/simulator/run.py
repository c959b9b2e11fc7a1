"""Runs the simulator: a steady rate of sends, each with its webhooks at their times.

In order, for every message: the ledger's line, then the send record, if there is a send, then the
webhooks. How much
may be under way at once is bounded, so an edge that is away slows the simulator down instead of
filling its memory.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

from sendtrace.runtime.settings import Settings
from sendtrace.simulator.ledger import Ledger, open_ledger
from sendtrace.simulator.traffic import Plan, Profile, next_plan
from sendtrace.simulator.wire import Tally, Wire, open_wire

# Sends whose webhooks are not all through: at 20 a second and a few seconds each, some hundred.
UNDER_WAY_LIMIT = 20_000
# After a pause of the machine do not make up for more than this much lost time.
CATCH_UP_SECONDS = 1.0


async def simulate(
    settings: Settings,
    rate: float,
    seconds: float | None,
    seed: int,
    ledger_path: Path,
    stopping: asyncio.Event,
    profile: Profile | None = None,
) -> Tally:
    """Send ``rate`` messages a second for ``seconds`` (None: until ``stopping``).

    Raises DependencyAway when no edge is there to begin with.
    When the time is up the webhooks under way are still delivered; on ``stopping`` they are cut
    short, and the ledger shows which ones.
    """
    random = Random(seed)  # noqa: S311 - made-up traffic is no secret
    with open_ledger(ledger_path) as ledger:
        async with open_wire(settings) as wire:
            await wire.require()
            traffic = asyncio.create_task(
                _traffic(wire, ledger, random, rate, seconds, profile or Profile())
            )
            stop = asyncio.create_task(stopping.wait())
            await asyncio.wait({traffic, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not traffic.done():
                traffic.cancel()
            await asyncio.wait({traffic})
            if not traffic.cancelled():
                traffic.result()
            return wire.tally


async def _traffic(
    wire: Wire,
    ledger: Ledger,
    random: Random,
    rate: float,
    seconds: float | None,
    profile: Profile,
) -> None:
    room = asyncio.Semaphore(UNDER_WAY_LIMIT)
    started = due = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        while seconds is None or due < started + seconds:
            await room.acquire()
            plan = next_plan(random, time.time_ns() // 1000, profile)
            tasks.create_task(_play(wire, ledger, plan, room))
            due = max(due + 1.0 / rate, time.monotonic() - CATCH_UP_SECONDS)
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _play(wire: Wire, ledger: Ledger, plan: Plan, room: asyncio.Semaphore) -> None:
    try:
        answered = time.monotonic()
        ledger.plan(plan.expected, time.time_ns() // 1000)
        ledger.plan_inbound(plan.inbound)
        # Together, not in turn: Vonage retries each on its own, and one may overtake another.
        results = await asyncio.gather(
            _record(wire, plan),
            *(_call(wire, plan, index, answered) for index in range(len(plan.webhooks))),
        )
        if all(results):
            ledger.complete(plan.expected)
            ledger.complete_inbound(plan.inbound)
    finally:
        room.release()


async def _record(wire: Wire, plan: Plan) -> bool:
    if plan.send is None:
        return True
    await asyncio.sleep(plan.record_after_seconds)
    return await wire.record_send(plan.send)


async def _call(wire: Wire, plan: Plan, index: int, answered: float) -> bool:
    webhook = plan.webhooks[index]
    await asyncio.sleep(max(0.0, answered + webhook.after_seconds - time.monotonic()))
    return await wire.call_webhook(webhook)
