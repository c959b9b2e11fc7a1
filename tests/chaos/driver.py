"""Lets the faults of a plan fall on a stack under traffic, and asks afterwards what is missing.

For each step: a pause, its faults at once, was each seen, what they must last, heal, start whatever
ended, and then the time until a message that was sent after that is in the warehouse. At the end
the simulator is stopped, `verify` compares, and the sums are worked out once more
(`accounting.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sendtrace.local.process import LocalStackError
from sendtrace.runtime.kafka import KafkaClients
from sendtrace.runtime.settings import Settings
from sendtrace.simulator.ledger import Book, open_ledger, read_ledger
from sendtrace.simulator.requests import FILE as REQUESTS_FILE
from sendtrace.simulator.requests import open_requests, read_requests
from sendtrace.verify import gather
from sendtrace.verify.found import Report
from sendtrace.verify.run import verify

from chaos.accounting import Sums, sums
from chaos.driving import flows
from chaos.faults import Fault, Suspended, SuspendedInWeather
from chaos.observing import Before, is_seen, kills, recoveries
from chaos.planning import Step
from chaos.processes import EndedWhileStarting
from chaos.stack import SIMULATOR, LocalStack, start_again
from chaos.strays import Writing

SETTINGS = Settings(
    partitions=3,
    session_timeout_ms=6_000,
    transaction_timeout_ms=10_000,
    transaction_interval_ms=50,
    edge_drain_seconds=0.0,
)
# An ordinary day, a hundred times as fast: after a fault the last retry comes within 9 s.
SCENARIO = "compression = 100\nlongest_seconds = 300\n"
# A loaded machine takes its time to start a process, and a broker to elect.
RECOVERY_SECONDS = 90.0
VERIFY_SECONDS = 60.0
SUPERVISED_EVERY_SECONDS = 1.0
# The longest pause between two tries: what waits for its retry is not cut short then.
CALM_SECONDS = 9.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """One fault that fell."""

    fault: Fault
    seen: bool
    kills: int
    recovery_seconds: float
    restored: int  # tasks of stages that lived through the step
    restarted: tuple[str, ...]  # parts that ended without being killed
    is_alone: bool = True  # no other fault fell with it


@dataclass
class Outcome:
    """A run that is over."""

    seed: int
    brokers: int
    done: list[Done] = field(default_factory=list)
    seconds: float = 0.0
    report: Report = field(default_factory=Report)
    sums: Sums = field(default_factory=lambda: Sums(0, 0, 0, (), (), ()))
    complete: int = 0
    cut_short: int = 0

    @property
    def kills(self) -> int:
        return sum(each.kills for each in self.done)

    @property
    def is_clean(self) -> bool:
        return self.report.is_equal and self.sums.is_clean

    @property
    def evidence(self) -> set[str]:
        """Which of the sums are not clean, and where `verify` found differences."""
        return self.sums.unclean | {each.where for each in self.report.differences}


class Driver:
    """Drives one stack once. The ledger is in ``directory``."""

    def __init__(
        self,
        stack: LocalStack,
        directory: Path,
        seed: int,
        say: Say = print,
        verify_seconds: float = VERIFY_SECONDS,
    ) -> None:
        self._verify_seconds = verify_seconds
        self._stack = stack
        self._ledger = directory / "ledger.jsonl"
        self._scenario = directory / "scenario.toml"
        self._say = say
        self.outcome = Outcome(seed, len(stack.brokers.numbers))

    async def run(
        self, steps: Iterable[Step], rate: float, limit_seconds: float = float("inf")
    ) -> Outcome:
        """All steps, or as many as begin within the limit; then compare."""
        began = time.monotonic()
        await self._begin_traffic(rate)
        for step in steps:
            if time.monotonic() - began > limit_seconds:
                self._say(f"{limit_seconds:.0f} s are over")
                break
            await asyncio.sleep(step.pause_seconds)
            done = await self._fall(step)
            self.outcome.done += done
            self._say(_line(done, time.monotonic() - began))
        await self._end_traffic()
        await self._compare()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    async def _begin_traffic(self, rate: float) -> None:
        self._scenario.write_text(SCENARIO)
        await self._stack.processes.start(
            SIMULATOR, "--rate", str(rate), "--ledger", str(self._ledger),
            "--seed", str(self.outcome.seed), "--scenario", str(self._scenario),
        )  # fmt: skip
        await flows(self._stack, RECOVERY_SECONDS)

    async def _fall(self, step: Step) -> list[Done]:
        # Who met a full disk may end only with its next write.
        late = await self._start_ended()
        stack, before, faults = self._stack, Before.of(self._stack), step.faults
        restored_before = await recoveries(stack)
        try:
            injected = await asyncio.gather(*map(self._inject, faults))
            seen = [
                is_injected and await is_seen(stack, fault, before)
                for fault, is_injected in zip(faults, injected, strict=True)
            ]
            await asyncio.sleep(max(fault.hold_seconds for fault in faults))
        finally:
            began = time.monotonic()
            healed = await asyncio.gather(*map(self._heal, faults))
        seen = [all(both) for both in zip(seen, healed, strict=True)]
        restarted = await self._recovered()
        took = time.monotonic() - began
        restored = await recoveries(stack)
        return [
            Done(
                fault=fault,
                seen=was_seen,
                kills=len(kills(fault)) if was_seen else 0,
                recovery_seconds=took,
                restored=sum(restored[each] - n for each, n in restored_before.items()
                             if each in restored),
                restarted=(*late, *restarted) if fault is faults[0] else (),
                is_alone=len(faults) == 1,
            )
            for fault, was_seen in zip(faults, seen, strict=True)
        ]  # fmt: skip

    async def _inject(self, fault: Fault) -> bool:
        """A fault that could not be done counts as not seen, and the run goes on."""
        try:
            try:
                await self._do(fault)
            except psutil.NoSuchProcess:  # what it is done to ended by itself in this moment
                for part in _done_to(fault):
                    await start_again(self._stack, part)
                await self._do(fault)
        except Exception as error:  # noqa: BLE001  # whatever it was: it is told, and counts
            self._say(f"{fault.name}: could not be done, {error!r}")
            return False
        return True

    async def _do(self, fault: Fault) -> None:
        if isinstance(fault, Writing):
            await self._write(fault)
        else:
            await fault.inject(self._stack)

    async def _write(self, fault: Writing) -> None:
        """Told as the simulator tells what it sends: before, and again when it is there."""
        with (
            open_ledger(self._ledger) as ledger,
            open_requests(self._ledger.with_name(REQUESTS_FILE)) as log,
        ):
            ledger.announce(fault.told)
            now_us = time.time_ns() // 1000
            asked = [log.sending(each.request, each.ids, now_us) for each in fault.strays]
            await fault.inject(self._stack)
            for n in asked:
                log.answered(n, 200)
            ledger.complete([each.message_id for each in fault.told])

    async def _heal(self, fault: Fault) -> bool:
        """False: what was to be killed now had ended by itself, so that it was not."""
        is_done = True
        try:
            await fault.heal(self._stack)
        except* (EndedWhileStarting, LocalStackError, TimeoutError):
            pass  # what it needs was not there yet: started again, or waited for, afterwards
        except* psutil.NoSuchProcess as gone:
            self._say(f"{fault.name}: {gone.exceptions[0]!r}")
            is_done = False
        return is_done

    async def _recovered(self) -> tuple[str, ...]:
        """Waits, and starts again what ended, as a supervisor does: a part may end later, too."""
        restarted = [*await self._start_ended()]
        waiting = asyncio.create_task(flows(self._stack, RECOVERY_SECONDS))
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=SUPERVISED_EVERY_SECONDS)
                restarted += await self._start_ended()
        finally:
            waiting.cancel()
        await waiting
        return tuple(restarted)

    async def _start_ended(self) -> tuple[str, ...]:
        ended = tuple(part for part in self._stack.parts if not self._stack.is_alive(part))
        for part in ended:
            await start_again(self._stack, part)
        return ended

    async def _end_traffic(self) -> None:
        await asyncio.sleep(CALM_SECONDS)
        simulator = self._stack.processes.running[SIMULATOR]
        assert simulator.returncode is None, self._stack.processes.log(SIMULATOR)
        simulator.terminate()
        async with asyncio.timeout(60):
            assert await simulator.wait() == 0, self._stack.processes.log(SIMULATOR)

    async def _compare(self) -> None:
        settings = self._stack.settings
        clients, outcome = KafkaClients(settings), self.outcome
        await self._start_ended()
        outcome.report = await verify(
            settings, clients, self._ledger, self._verify_seconds, self._say
        )
        outcome.sums = sums(
            read_requests(self._ledger.with_name(REQUESTS_FILE)),
            await gather.topics(clients, settings),
            {
                stray.name
                for done in outcome.done
                if isinstance(done.fault, Writing)
                for stray in done.fault.strays
            },
        )
        book: Book = read_ledger(self._ledger)
        outcome.complete = len(book.messages.keys() & book.complete)
        outcome.cut_short = len(book.messages.keys() - book.complete)


def _done_to(fault: Fault) -> tuple[str, ...]:
    if isinstance(fault, Suspended | SuspendedInWeather):
        return (fault.part,)
    return kills(fault)


def _line(done: Sequence[Done], at_seconds: float) -> str:
    names = "; ".join(each.fault.name + ("" if each.seen else " (NOT SEEN)") for each in done)
    line = f"{at_seconds:6.1f} s  {names}: back after {done[0].recovery_seconds:.1f} s"
    if done[0].restarted:
        line += f", also started: {', '.join(done[0].restarted)}"
    return line
