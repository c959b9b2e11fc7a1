"""The dashboard's file is what its source makes; and each of its queries, run by a real Prometheus.

The stack is `sendtrace up`, as a user has it, with a second exporter, so that figures would double
if rules forgot it. Prometheus scrapes it before there is any traffic, which is then the
simulator's. What can be counted must equal SQL over the warehouse.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
import yaml

from sendtrace.local.plan import Options, make_plan
from sendtrace.local.process import port_is_free
from sendtrace.runtime.settings import Settings, to_environment

from dashboard_sql import SOME, SQL
from programs import ROOT, program

DASHBOARD = ROOT / "deploy/grafana/sendtrace.json"
PROMETHEUS = ROOT / "deploy/prometheus"
SEED, RATE, SECONDS = "7", "40", "20s"

Figures = dict[tuple[str, ...], float]


def panels() -> list[dict[str, Any]]:
    document = json.loads(DASHBOARD.read_text())
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def test_the_file_is_what_its_source_makes() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "deploy/grafana/dashboard.py"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert made.stdout == DASHBOARD.read_text(), "run `make dashboard`"


def test_panels_have_titles_of_their_own_and_lie_beside_each_other() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles))
    assert set(SQL) <= set(titles)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def free_port_base() -> int:
    ports = [*make_plan(Settings(), {}, Options()).ports.values(), 8087, 9090]
    return next(
        base
        for base in range(10_000, 40_000, 503)
        if all(port_is_free(port + base) for port in ports)
    )


@asynccontextmanager
async def running(
    *command: str, environment: Mapping[str, str], log: Path, stop_seconds: float = 120
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of ours; at the end it is asked to stop, and must."""
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={**os.environ, **environment}, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), stop_seconds)


class Api:
    """Prometheus's HTTP API."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def query(self, expression: str) -> list[dict[str, Any]]:
        async with self._http.get(
            f"{self._url}/api/v1/query", params={"query": expression}
        ) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])

    async def number(self, expression: str) -> float | None:
        """The only figure; None when there is none, or no Prometheus yet."""
        try:
            found = await self.query(expression)
        except aiohttp.ClientError:
            return None
        assert len(found) < 2
        return float(found[0]["value"][1]) if found else None

    async def until(self, expression: str, value: float, seconds: float = 180) -> None:
        found: float | None = None
        try:
            async with asyncio.timeout(seconds):
                while (found := await self.number(expression)) != value:
                    await asyncio.sleep(0.3)
        except TimeoutError:
            pytest.fail(f"{expression} is {found}, not {value}")


def configuration(base: int) -> str:
    """The committed one, for the ports of this stack, quicker, and with a second exporter."""
    document = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    document["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    document["rule_files"] = [str(PROMETHEUS / name) for name in document["rule_files"]]
    for job in document["scrape_configs"]:
        job.pop("scrape_timeout", None)
        [given] = job["static_configs"]
        ports = [int(target.split(":")[1]) for target in given["targets"]]
        if job["job_name"] == "sendtrace-exporter":
            ports.append(8087)
        given["targets"] = [f"127.0.0.1:{port + base}" for port in ports]
    return yaml.safe_dump(document)


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Api, asyncpg.Connection]]:
    """Traffic has flown, and everything has read it to the end."""
    folder, base = tmp_path_factory.mktemp("stack"), free_port_base()
    settings = msgspec.structs.replace(
        Settings(), port_base=base, data_dir=str(folder / "data"), partitions=3
    )
    plan = make_plan(settings, {}, Options(rate=None))
    environment = to_environment(plan.settings)
    ours = (sys.executable, "-m", "sendtrace")
    url = f"http://127.0.0.1:{9090 + base}"
    (folder / "prometheus.yml").write_text(configuration(base))
    async with AsyncExitStack() as everything:
        up_log = folder / "up.log"
        up = await everything.enter_async_context(
            running(
                *ours, "up", "--no-simulate", log=up_log,
                environment={
                    name: environment[name]
                    for name in (
                        "SENDTRACE_PORT_BASE", "SENDTRACE_DATA_DIR", "SENDTRACE_PARTITIONS"
                    )
                },
            )
        )  # fmt: skip
        async with asyncio.timeout(180):
            while b"sendtrace is up" not in up_log.read_bytes():
                assert up.returncode is None, up_log.read_text()
                await asyncio.sleep(0.1)
        await everything.enter_async_context(
            running(
                *ours, "exporter", log=folder / "exporter.log",
                environment={**environment, "SENDTRACE_EXPORTER_PORT": "8087"},
            )
        )  # fmt: skip
        await everything.enter_async_context(
            running(
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{9090 + base}",
                "--log.level=warn",
                environment={}, log=folder / "prometheus.log",
            )
        )  # fmt: skip
        http = await everything.enter_async_context(aiohttp.ClientSession())
        prometheus = Api(http, url)
        await prometheus.until('sum(up{job=~"sendtrace-.+"})', 6)
        await prometheus.until("count(sendtrace_exporter_keys == 0)", 2)
        simulator = await everything.enter_async_context(
            running(
                *ours, "simulate", "--rate", RATE, "--for", SECONDS, "--seed", SEED,
                environment=environment, log=folder / "simulator.log",
            )
        )  # fmt: skip
        assert await asyncio.wait_for(simulator.wait(), 180) == 0
        database = await asyncpg.connect(plan.settings.postgres_dsn)
        try:
            await until_still(prometheus, database)
            yield prometheus, database
        finally:
            await database.close()


async def until_still(prometheus: Api, database: asyncpg.Connection) -> None:
    """Until Prometheus has scraped what the warehouse has, and neither moves any more."""
    await prometheus.until("sum(max_over_time(sendtrace:lag_records[3s]))", 0)
    before: tuple[int, int] | None = None
    async with asyncio.timeout(90):
        while (now := await versions(database)) != before:
            before = now
            await asyncio.sleep(4)
    count = await database.fetchval("select count(*) from messages")
    await prometheus.until("sum(sendtrace:messages)", count)
    await asyncio.sleep(5)  # rules of rules: each a second


async def versions(database: asyncpg.Connection) -> tuple[int, int]:
    row = await database.fetchrow("select count(*), sum(source_offset) from messages")
    return row[0], int(row[1] or 0)


def filled(expression: str) -> str:
    """As Grafana fills it in with "All" chosen everywhere."""
    for name in ("account", "api", "channel", "country"):
        expression = expression.replace(f"${name}", ".*")
    assert "$" not in expression
    return expression


async def test_two_exporters_do_not_double(
    stack: tuple[Api, asyncpg.Connection],
) -> None:
    prometheus, database = stack
    count = await database.fetchval("select count(*) from messages")
    assert count > 500
    shown = "sum(sendtrace_messages_total) - sum(sendtrace_messages_withdrawn_total)"
    assert await prometheus.number(shown) == 2 * count
    assert await prometheus.number("sum(sendtrace:messages)") == count


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
async def test_a_panel_shows_what_the_warehouse_has(
    panel: dict[str, Any], stack: tuple[Api, asyncpg.Connection]
) -> None:
    prometheus, database = stack
    for target in panel["targets"]:
        found = await prometheus.query(filled(target["expr"]))
        values = [float(series["value"][1]) for series in found]
        assert values, target["expr"]
        assert all(value == value and value >= 0 for value in values), values
    if panel["title"] not in SQL:
        return
    labels, sql = SQL[panel["title"]]
    rows = await database.fetch(sql)
    expected: Figures = {tuple(row[:-1]): float(row[-1] or 0) for row in map(tuple, rows)}
    shown: Figures = {
        tuple(series["metric"].get(label, "") for label in labels): float(series["value"][1])
        for series in found
    }
    compare(shown, expected, some=panel["title"] in SOME)


def compare(shown: Figures, expected: Figures, *, some: bool) -> None:
    """Zeros need not be in the warehouse: there is no row for what messages have left."""
    if not some:
        assert {k: v for k, v in shown.items() if v} == pytest.approx(
            {k: v for k, v in expected.items() if v}
        )
        return
    assert len(shown) == min(10, len(expected))
    assert shown == pytest.approx({key: expected[key] for key in shown})


async def test_no_alert_fires_that_says_something_is_broken(
    stack: tuple[Api, asyncpg.Connection],
) -> None:
    prometheus, _ = stack
    firing = await prometheus.query('ALERTS{alertstate="firing", severity="critical"}')
    assert [alert["metric"]["alertname"] for alert in firing] == []
