"""Real Kafka by plain Python: starts, keeps its data through stop and SIGKILL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from sendtrace.local.kafka import LocalKafka, _escaped
from sendtrace.local.process import LocalStackError

PARENT = """
import asyncio, sys
from pathlib import Path
from sendtrace.local.kafka import LocalKafka

async def main():
    kafka = await LocalKafka.start(Path(sys.argv[1]))
    print(kafka.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def _create(kafka: LocalKafka, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def _produce(kafka: LocalKafka, value: bytes, transactional_id: str | None = None) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, acks="all", transactional_id=transactional_id
    )
    await producer.start()
    try:
        if transactional_id is None:
            await producer.send_and_wait("t", value)
        else:
            async with producer.transaction():
                await producer.send_and_wait("t", value)
    finally:
        await producer.stop()


async def _values(kafka: LocalKafka, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition("t", 0)])
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_data_outlives_a_stop_and_a_kill(tmp_path: Path) -> None:
    kafka = await LocalKafka.start(tmp_path)
    try:
        assert psutil.Process(kafka.pid).name() == "java"
        await _create(kafka, "t")
        await _produce(kafka, b"one")
        await kafka.stop()
        assert not psutil.pid_exists(kafka.pid)

        kafka = await LocalKafka.start(tmp_path)
        await _produce(kafka, b"two", transactional_id="tx")
        kafka.kill()
        assert not kafka.running

        kafka = await LocalKafka.start(tmp_path, port=kafka.port)
        await _produce(kafka, b"three", transactional_id="tx")
        assert await _values(kafka, 3) == [b"one", b"two", b"three"]
    finally:
        await kafka.stop()
    used_bytes = sum(path.stat().st_size for path in (tmp_path / "log").rglob("*"))
    assert used_bytes < 64 * 1024 * 1024
    assert not (tmp_path / "kafka.json").exists()


def _orphan(data_dir: Path) -> psutil.Process:
    """A Kafka whose parent was killed just now."""
    argv = [sys.executable, "-c", PARENT, data_dir]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            return psutil.Process(int(parent.stdout.readline()))
        finally:
            os.kill(parent.pid, signal.SIGKILL)


async def test_a_second_one_on_the_same_folder_waits_for_an_orphan_to_end(tmp_path: Path) -> None:
    orphan = _orphan(tmp_path)
    kafka = await LocalKafka.start(tmp_path)
    try:
        assert not orphan.is_running()
    finally:
        await kafka.stop()


async def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LocalStackError, match="is taken"):
            await LocalKafka.start(tmp_path, port=taken.getsockname()[1])


async def test_a_setting_kafka_refuses_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"(?s)Kafka.*num\.io\.threads"):
        await LocalKafka.start(tmp_path, overrides={"num.io.threads": "none"})


async def test_too_short_a_deadline_leaves_nothing_running(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(LocalStackError, match="allow more time"):
        await LocalKafka.start(tmp_path, start_timeout_seconds=0.1)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    kafka = await LocalKafka.start(tmp_path)  # half a format does no harm
    await kafka.stop()


def test_paths_are_escaped_as_java_reads_them() -> None:
    assert _escaped("C:\\data") == "C:\\\\data"
    assert _escaped("/home/zoë/😀") == "/home/zo\\u00eb/\\ud83d\\ude00"
