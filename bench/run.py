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
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from sendtrace.local.kafka import LocalKafka
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


def show(console: Console, title: str, results: dict[str, list[dict[str, Any]]], unit: str) -> None:
    """The best round of each, with the ratio to the reference (the last row)."""
    best = {name: min(rounds, key=lambda r: r[unit]) for name, rounds in results.items()}
    reference = list(best.values())[-1][unit]
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
            joined = await join_rounds(kafka, console)
        finally:
            await kafka.stop()
    show(console, "join: per input event", joined, "cpu_us_per_event")


if __name__ == "__main__":
    asyncio.run(main())
