"""``make bench``: real Kafka on this machine, each thing beside its reference, in turns.

Figures are CPU (user + system of the process under test) per event; the best of the rounds is
shown with its ratio to the best of the reference. These machines are noisy: believe ratios.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from bench import open_messages, visible
from sendtrace.local.kafka import LocalKafka
from sendtrace.local.process import choose_port, port_is_free
from sendtrace.runtime import topics
from sendtrace.runtime.settings import Settings, to_environment

ROUNDS = 3
MESSAGES = 100_000


def run(module: str, *arguments: str, settings: Settings) -> dict[str, Any]:
    """One bench process; its last line is its result."""
    environment = {**os.environ, **to_environment(settings)}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


async def join_rounds(kafka: LocalKafka, console: Console) -> dict[str, list[dict[str, Any]]]:
    """The joiner and the bare loop in turns, over the same records."""
    results: dict[str, list[dict[str, Any]]] = {"joiner": [], "bare": []}
    for number in range(ROUNDS):
        settings = Settings(
            kafka_bootstrap=kafka.bootstrap, topic_prefix=f"bench{number}.", partitions=4
        )
        await topics.apply(settings)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(f"bench{number}.bare", 4, 1)])
        await admin.close()
        await asyncio.to_thread(run, "bench.join", "fill", str(MESSAGES), settings=settings)
        order = ["joiner", "bare"] if number % 2 else ["bare", "joiner"]
        for what in order:
            result = await asyncio.to_thread(
                run, "bench.join", what, str(MESSAGES), settings=settings
            )
            results[what].append(result)
            console.print(f"round {number + 1}: {what} {result}")
    return results


REQUESTS = 40_000


async def edge_rounds(kafka: LocalKafka, console: Console) -> dict[str, list[dict[str, Any]]]:
    """The edge on real Kafka, and the same server and detection without Kafka, in turns."""
    settings = Settings(
        kafka_bootstrap=kafka.bootstrap,
        topic_prefix="edge.",
        edge_port=choose_port(0),
        edge_internal_port=choose_port(0),
    )
    await topics.apply(settings)
    bare_port = choose_port(0)
    servers = {
        "edge": (settings.edge_port, ["-m", "sendtrace", "edge"]),
        "bare": (bare_port, ["-m", "bench.bare_edge", str(bare_port)]),
    }
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
    for number in range(ROUNDS):
        for name in sorted(servers, reverse=bool(number % 2)):
            result = await asyncio.to_thread(serve_and_load, *servers[name], settings)
            results[name].append(result)
            console.print(f"round {number + 1}: {name} {result}")
    return results


def serve_and_load(port: int, arguments: list[str], settings: Settings) -> dict[str, Any]:
    """CPU of a server per request, after a warm-up."""
    environment = {**os.environ, **to_environment(settings)}
    server = subprocess.Popen([sys.executable, *arguments], env=environment)
    try:
        until = time.monotonic() + 20
        while port_is_free(port) and time.monotonic() < until:
            time.sleep(0.05)
        run("bench.load", str(port), "4000", settings=settings)
        process = psutil.Process(server.pid)
        before = process.cpu_times()
        result = run("bench.load", str(port), str(REQUESTS), settings=settings)
        after = process.cpu_times()
    finally:
        server.terminate()
        server.wait(20)
    cpu_seconds = after.user + after.system - before.user - before.system
    assert result["statuses"] == {"200": result["requests"]}, result
    return {
        "cpu_us_per_request": round(cpu_seconds * 1e6 / result["requests"], 1),
        "requests_per_second": result["requests_per_second"],
        "p99_ms": result["p99_ms"],
    }


def show(console: Console, title: str, results: dict[str, list[dict[str, Any]]], unit: str) -> None:
    """The best round of each with its ratio to the bare one."""
    best = {name: min(rounds, key=lambda r: r[unit]) for name, rounds in results.items()}
    reference = best["bare"][unit]
    table = Table(title=title)
    for column in ("what", *next(iter(best.values())), "ratio to reference"):
        table.add_column(column, justify="right")
    for name, result in best.items():
        table.add_row(name, *map(str, result.values()), f"{result[unit] / reference:.2f}")
    console.print(table)


async def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as directory:
        kafka = await LocalKafka.start(Path(directory) / "kafka", heap_megabytes=1024)
        try:
            edged = await edge_rounds(kafka, console)
            joined = await join_rounds(kafka, console)
        finally:
            await kafka.stop()
    opened = await open_messages.measure_apart()
    seen = await visible.measure(console, visible.FULL)
    decoded = run("bench.decode", settings=Settings())
    table = Table(title="decode: microseconds a call")
    for column in ("what", "us"):
        table.add_column(column, justify="right")
    for what, cost_us in decoded.items():
        table.add_row(what, str(cost_us))
    console.print(table)
    show(console, "edge: per webhook answered 200", edged, "cpu_us_per_request")
    show(console, "join: per input event", joined, "cpu_us_per_event")
    open_messages.show(console, opened)
    visible.show(console, seen)


if __name__ == "__main__":
    asyncio.run(main())
