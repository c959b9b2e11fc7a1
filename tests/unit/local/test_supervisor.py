"""The supervisor: restarts within a budget, stops in order, leaves nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sendtrace.local import supervisor as module
from sendtrace.local.plan import ChildPlan
from sendtrace.local.process import LocalStackError, ProcessDiffers
from sendtrace.local.supervisor import RestartBudget, Supervisor


def test_the_budget_allows_five_a_minute_and_then_more_as_time_goes() -> None:
    budget = RestartBudget()
    assert [budget.allows(now) for now in range(6)] == [True] * 5 + [False]
    assert not budget.allows(59.9)
    assert budget.allows(60.0)
    assert not budget.allows(60.5)


def test_pauses_grow_with_the_deaths_in_the_window() -> None:
    budget = RestartBudget()
    pauses = [budget.pause_seconds for now in range(5) if budget.allows(now)]
    assert pauses == [0.0, 1.0, 2.0, 4.0, 8.0]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], ChildPlan]:
    """A child whose `python -m sendtrace` is a few lines of the test's own."""

    def make(source: str) -> ChildPlan:
        (tmp_path / "sendtrace.py").write_text(source)
        return ChildPlan("child", (), may_finish=True)

    return make


def make_supervisor(tmp_path: Path, said: list[str]) -> Supervisor:
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    return Supervisor(environment, tmp_path, said.append, lambda: None)


async def test_a_child_that_dies_is_started_again_and_then_given_up(
    tmp_path: Path, command: Callable[[str], ChildPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(RestartBudget, "pause_seconds", 0.0)
    said: list[str] = []
    supervisor = make_supervisor(tmp_path, said)
    supervisor.start(command("import sys; sys.exit('no bread')"))
    with pytest.raises(LocalStackError, match=r"(?s)died 6 times in a minute.*no bread"):
        await asyncio.wait_for(supervisor.watch(), 60)
    assert said == ["child died with exit code 1; starting it again"] * 5
    assert supervisor.pids() == {}


async def test_a_child_that_may_finish_is_not_started_again(
    tmp_path: Path, command: Callable[[str], ChildPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    said: list[str] = []
    supervisor = make_supervisor(tmp_path, said)
    supervisor.start(command("print('12 sends')"))
    watching = asyncio.create_task(supervisor.watch())
    async with asyncio.timeout(60):
        while not said:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert said == ["child is done: 12 sends"]


async def test_a_child_that_found_other_data_is_not_started_again(
    tmp_path: Path, command: Callable[[str], ChildPlan]
) -> None:
    said: list[str] = []
    supervisor = make_supervisor(tmp_path, said)
    supervisor.start(
        command("import sys; print('a line', flush=True); print('The log is cut.'); sys.exit(5)")
    )
    with pytest.raises(ProcessDiffers) as raised:
        await asyncio.wait_for(supervisor.watch(), 60)
    assert str(raised.value) == "child ended with exit code 5: The log is cut."
    assert said == []


async def test_a_restart_leaves_out_what_was_for_the_start(
    tmp_path: Path, command: Callable[[str], ChildPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(RestartBudget, "pause_seconds", 0.0)
    given = tmp_path / "given"
    source = f"import sys; print(*sys.argv[1:], file=open({str(given)!r}, 'a')); sys.exit(1)"
    supervisor = make_supervisor(tmp_path, [])
    supervisor.start(replace(command(source), arguments=("run",), until_up=("--accept-gap",)))
    watching = asyncio.create_task(supervisor.watch())
    async with asyncio.timeout(60):
        while not given.exists() or given.read_text().count("\n") < 2:
            await asyncio.sleep(0.01)
        supervisor.all_are_up()
        while not given.read_text().endswith("run\n"):
            await asyncio.sleep(0.01)
    watching.cancel()
    await supervisor.stop(["child"])
    starts = given.read_text().splitlines()
    assert starts[:2] == ["run --accept-gap"] * 2


async def test_stop_ends_what_runs(tmp_path: Path, command: Callable[[str], ChildPlan]) -> None:
    supervisor = make_supervisor(tmp_path, [])
    supervisor.start(command("import time; time.sleep(60)"))
    pid = supervisor.pids()["child"]
    assert psutil.Process(pid).is_running()
    await supervisor.stop(["simulator", "child"])
    assert not psutil.pid_exists(pid)
    assert supervisor.pids() == {}
