"""Runs the simulator: a rate of sends, each with its webhooks at their times.

In order, for every plan: the ledger's lines, then the send record, if there is one, then the
webhooks. How much may be under way at once is bounded, so an edge that is away slows the simulator
down instead of filling its memory.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from sendtrace.runtime.settings import Settings
from sendtrace.simulator.ledger import Ledger, Run, open_ledger
from sendtrace.simulator.plan import Plan
from sendtrace.simulator.requests import FILE, open_requests
from sendtrace.simulator.scenario import DEFAULT, Scenario, load
from sendtrace.simulator.traffic import next_plan
from sendtrace.simulator.wire import Tally, Wire, open_wire

# Sends whose webhooks are not all through: at 20 a second and a few seconds each, some hundred.
UNDER_WAY_LIMIT = 20_000
# After a pause of the machine do not make up for more than this much lost time.
CATCH_UP_SECONDS = 5.0


@dataclass(frozen=True)
class Order:
    """What to play: ``rate`` plans a second for ``seconds`` (None: until stopped)."""

    rate: float
    seconds: float | None
    seed: int
    scenario: Scenario
    name: str = DEFAULT


async def simulate(
    settings: Settings,
    rate: float,
    seconds: float | None,
    seed: int,
    ledger_path: Path,
    stopping: asyncio.Event,
    scenario: str | Scenario = DEFAULT,
) -> Tally:
    """Play a scenario, by name, path or as it is. The requests are logged beside the ledger.

    Raises DependencyAway when no edge is there to begin with, SettingsError for a scenario that
    cannot be read. When the time is up the webhooks under way are still delivered; on ``stopping``
    they are cut short, and the ledger shows which ones.
    """
    name = scenario if isinstance(scenario, str) else "custom"
    played = load(scenario) if isinstance(scenario, str) else scenario
    order = Order(rate, seconds, seed, played, name)
    divisor = played.compression * settings.time_scale
    with (
        open_ledger(ledger_path) as ledger,
        open_requests(ledger_path.with_name(FILE)) as log,
    ):
        async with open_wire(settings, log, divisor) as wire:
            await wire.require()
            player = Player(wire, ledger, order, settings.time_scale)
            traffic = asyncio.create_task(player.play())
            stop = asyncio.create_task(stopping.wait())
            await asyncio.wait({traffic, stop}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not traffic.done():
                traffic.cancel()
            await asyncio.wait({traffic})
            if not traffic.cancelled():
                traffic.result()
            return wire.tally


class Player:
    """Plays one order over one wire."""

    def __init__(self, wire: Wire, ledger: Ledger, order: Order, time_scale: float) -> None:
        self._wire = wire
        self._ledger = ledger
        self._order = order
        self._time_scale = time_scale
        self._random = Random(order.seed)  # noqa: S311 - made-up traffic is no secret
        self._room = asyncio.Semaphore(UNDER_WAY_LIMIT)
        self._started = time.monotonic()
        wire.gets_through = self._gets_through

    async def play(self) -> None:
        order = self._order
        self._ledger.announce(
            [
                Run(
                    scenario=order.name, seed=order.seed, rate=order.rate,
                    time_scale=self._time_scale, started_at_us=time.time_ns() // 1000,
                )
            ]
        )  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            await self._send_all(tasks)

    async def _send_all(self, tasks: asyncio.TaskGroup) -> None:
        order = self._order
        self._started = due = time.monotonic()
        while order.seconds is None or due < self._started + order.seconds:
            await self._room.acquire()
            elapsed = self._elapsed_seconds()
            plan = next_plan(
                self._random, time.time_ns() // 1000, order.scenario, elapsed, self._time_scale,
                self._wire.is_verified,
            )  # fmt: skip
            tasks.create_task(self._play(plan))
            pause = 1.0 / (order.rate * order.scenario.at(elapsed).rate)
            due = max(due + pause, time.monotonic() - CATCH_UP_SECONDS)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _elapsed_seconds(self) -> float:
        """In the scenario's own time."""
        return (time.monotonic() - self._started) * self._time_scale

    def _gets_through(self) -> bool:
        return self._order.scenario.at(self._elapsed_seconds()).is_reachable

    async def _play(self, plan: Plan) -> None:
        try:
            answered = time.monotonic()
            self._ledger.announce(plan.lines)
            # Together, not in turn: Vonage retries each on its own, and one may overtake another.
            results = await asyncio.gather(
                self._record(plan),
                *(self._call(plan, index, answered) for index in range(len(plan.webhooks))),
            )
            if all(results):
                self._ledger.complete(plan.ids)
        finally:
            self._room.release()

    async def _record(self, plan: Plan) -> bool:
        if plan.send is None:
            return True
        await asyncio.sleep(plan.record_after_seconds)
        return await self._wire.record_send(plan.send, plan.sent_ids)

    async def _call(self, plan: Plan, index: int, answered: float) -> bool:
        webhook = plan.webhooks[index]
        await asyncio.sleep(max(0.0, answered + webhook.after_seconds - time.monotonic()))
        return await self._wire.call_webhook(webhook)
