"""The brokers of the local stack: one, or a cluster of three as production has it.

Three combined nodes (broker and controller) on 127.0.0.1, each a process of its own with a folder
of its own. Two of them are a majority and satisfy min.insync.replicas, so any one may be away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sendtrace.local.datadir import explained, make_folder
from sendtrace.local.jars import OnProgress
from sendtrace.local.kafka import LocalKafka, new_cluster_id
from sendtrace.runtime.settings import SettingsError

FIRST_PORT = 19092
BROKER_COUNTS = (1, 3)
# Of a cluster's node, which three JVMs side by side have to find room for.
CLUSTER_HEAP_MEGABYTES = 256
# A node of three has started when the others have, on as many cores as there are.
CLUSTER_START_SECONDS = 120.0

# What a cluster of three promises: no acknowledged record is lost with one broker.
REPLICATED: Mapping[str, str] = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "unclean.leader.election.enable": "false",
    # Kafka's own threads per node are for servers with many cores and disks; here they are three.
    "num.io.threads": "4",
    "num.network.threads": "2",
    # Not 128 MB of buffers out of a small heap, but what a laptop's topics need.
    "log.cleaner.dedupe.buffer.size": "16777216",
}


@dataclass(frozen=True)
class Broker:
    """Where one node stands. ``overrides`` win over the cluster's settings."""

    number: int
    folder: Path
    port: int
    controller_port: int
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def place(data_dir: Path, count: int, port_base: int = 0) -> tuple[Broker, ...]:
    """Fixed places: ports 19092, 19094, 19096, each with its controller's port one above."""
    return tuple(
        Broker(
            number=number,
            folder=data_dir / ("kafka" if count == 1 else f"kafka-{number}"),
            port=FIRST_PORT + port_base + 2 * (number - 1),
            controller_port=FIRST_PORT + port_base + 2 * (number - 1) + 1,
        )
        for number in range(1, count + 1)
    )


def broker_name(broker: Broker, brokers: Sequence[Broker]) -> str:
    """``Kafka``, or ``Kafka 2`` where there are several: in messages, records and complaints."""
    return "Kafka" if len(brokers) == 1 else f"Kafka {broker.number}"


def bootstrap(brokers: Sequence[Broker]) -> str:
    """All of them, so that a client finds the cluster whichever is away."""
    return ",".join(broker.address for broker in brokers)


def begun_with(data_dir: Path) -> int | None:
    """How many brokers the data in this folder is of; None when there is none yet."""
    for count in BROKER_COUNTS:
        if any(_meta(broker.folder).exists() for broker in place(data_dir, count)):
            return count
    return None


def choose_count(data_dir: Path, wanted: int | None, is_fresh: bool) -> int:
    """What was asked for, else what is there, else one. SettingsError when these differ.

    The replication of a topic that exists does not change by itself: three brokers over the data
    of one would promise what they do not keep.
    """
    begun = None if is_fresh else begun_with(data_dir)
    if wanted is not None and begun is not None and wanted != begun:
        raise SettingsError(
            f"The data in {data_dir} was begun with --brokers {begun}: go on with that, remove the "
            "data with --fresh, or choose another folder with SENDTRACE_DATA_DIR"
        )
    return wanted or begun or 1


async def start_broker(
    broker: Broker,
    brokers: Sequence[Broker],
    *,
    on_progress: OnProgress | None = None,
) -> LocalKafka:
    """Start one node of a cluster; returns when it takes requests.

    Of three, that is when two have been started: start them side by side.
    """
    if len(brokers) == 1:
        return await LocalKafka.start(
            broker.folder,
            port=broker.port,
            controller_port=broker.controller_port,
            overrides=broker.overrides,
            on_progress=on_progress,
        )
    voters = ",".join(f"{one.number}@127.0.0.1:{one.controller_port}" for one in brokers)
    return await LocalKafka.start(
        broker.folder,
        port=broker.port,
        controller_port=broker.controller_port,
        heap_megabytes=CLUSTER_HEAP_MEGABYTES,
        overrides={
            **REPLICATED,
            "node.id": str(broker.number),
            "controller.quorum.voters": voters,
            **broker.overrides,
        },
        cluster_id=cluster_id(brokers),
        on_progress=on_progress,
        start_timeout_seconds=CLUSTER_START_SECONDS,
    )


def cluster_id(brokers: Sequence[Broker]) -> str:
    """The id in the nodes' folders; of a new cluster a random one, kept before any node has it.

    So nodes formatted side by side agree, also after a crash between two formats. It must not
    repeat: state and warehouse know by it that offsets are of another cluster.
    """
    for broker in brokers:
        if (found := _written_id(_meta(broker.folder))) is not None:
            return found
    folder = make_folder(brokers[0].folder)
    kept = folder / "cluster-id"
    if not kept.exists():
        with explained("write the cluster's id", folder):
            partial = folder / "cluster-id.partial"
            partial.write_text(new_cluster_id())
            partial.replace(kept)
    return kept.read_text()


def _meta(folder: Path) -> Path:
    """What Kafka's format tool leaves: a folder that has it is a node's."""
    return folder / "log" / "meta.properties"


def _written_id(meta: Path) -> str | None:
    if not meta.exists():
        return None
    lines = meta.read_text().splitlines()
    return next((line.partition("=")[2] for line in lines if line.startswith("cluster.id=")), None)
