"""Kafka in KRaft mode: every broker is a controller too, so one JVM is a whole cluster."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local.paths import KAFKA_CONFIGURATION, KAFKA_LIBRARIES
from deploy.local.ports import LOOPBACK
from deploy.local.service import Command, Creation, Service, being_made

#: Every data directory of the machine may carry the same id: a cluster is found by its ports.
CLUSTER_ID = "aGVhZHJhY2UtbG9jYWwtMQ"

#: The largest record that a broker takes; the contract's own limits are below it.
MAX_MESSAGE_BYTES = 8 * 2**20

#: C1 alone: 3.6 s of CPU to start instead of 5.0 s on 2 cores, and records cost the same (2026-11-23).
JVM_FLAGS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


@dataclass(frozen=True)
class Node:
    """One broker with its controller."""

    id: int
    broker_port: int
    controller_port: int
    directory: Path

    @property
    def data(self) -> Path:
        """The node's log directory."""
        return self.directory / "data"


def kafka(directory: Path, ports: Sequence[tuple[int, int]]) -> tuple[Service, ...]:
    """Describe a cluster with one node for each pair of (broker port, controller port)."""
    nodes = tuple(
        Node(number, broker_port, controller_port, directory / f"node-{number}")
        for number, (broker_port, controller_port) in enumerate(ports, start=1)
    )
    return tuple(service(node, nodes) for node in nodes)


def bootstrap(ports: Sequence[tuple[int, int]]) -> str:
    """The address list that clients take."""
    return ",".join(f"{LOOPBACK}:{broker_port}" for broker_port, _ in ports)


def service(node: Node, nodes: tuple[Node, ...]) -> Service:
    """Describe one node, and how its storage is formatted on the first start."""
    node.directory.mkdir(parents=True, exist_ok=True)
    running = write_properties(node.directory / "server.properties", node, nodes, node.data)
    formatting = write_properties(node.directory / "format.properties", node, nodes, being_made(node.data))
    format_storage = java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(formatting))
    return Service(
        name="kafka" if len(nodes) == 1 else f"kafka-{node.id}",
        command=java("kafka.Kafka", str(running)),
        is_healthy=lambda: knows_brokers(node.broker_port, len(nodes)),
        creations=(Creation(node.data, (format_storage,)),),
        stop_s=15.0,
    )


def java(main_class: str, *arguments: str) -> Command:
    """A command on Kafka's class path."""
    logging = f"-Dlog4j2.configurationFile={KAFKA_CONFIGURATION / 'log4j2.properties'}"
    return Command(("java", *JVM_FLAGS, logging, "-cp", f"{KAFKA_LIBRARIES}/*", main_class, *arguments))


def write_properties(path: Path, node: Node, nodes: tuple[Node, ...], data: Path) -> Path:
    """Write the node's configuration to ``path``."""
    settings = properties(node, nodes, data)
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


def properties(node: Node, nodes: tuple[Node, ...], data: Path) -> Mapping[str, str]:
    """The node's configuration with ``data`` as its log directory."""
    replicas = min(3, len(nodes))
    in_sync = max(1, replicas - 1)
    voters = ",".join(f"{other.id}@{LOOPBACK}:{other.controller_port}" for other in nodes)
    listeners = f"BROKER://{LOOPBACK}:{node.broker_port},CONTROLLER://{LOOPBACK}:{node.controller_port}"
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.id),
        "controller.quorum.voters": voters,
        "listeners": listeners,
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "BROKER",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        # Few partitions for Kafka's own topics: 50 each by default, which a first consumer waits for.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        # A group of one consumer starts at once, instead of waiting 3 s for others.
        "group.initial.rebalance.delay.ms": "0",
        # The default of 128 MiB is a quarter of our heap.
        "log.cleaner.dedupe.buffer.size": str(16 * 2**20),
    }


async def knows_brokers(port: int, count: int) -> bool:
    """Whether the broker on ``port`` answers, and sees ``count`` live brokers."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return await asyncio.to_thread(live_brokers, port) == count


def live_brokers(port: int) -> int:
    """How many brokers the cluster's metadata lists; 0 if there is no answer within a second."""
    client = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{port}", "log_level": 0})
    try:
        return len(client.list_topics(timeout=1).brokers)
    except KafkaException:
        return 0
