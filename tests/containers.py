"""The same three servers as containers, for machines where a Docker engine answers."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import docker
from docker.errors import DockerException
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from deploy.local.ports import free_ports
from deploy.local.servers.kafka import Node, properties

KAFKA_IMAGE = "apache/kafka:4.3.0"
POSTGRES_IMAGE = "postgres:15"
REDIS_IMAGE = "redis:7"

USUAL_ADDRESS = "unix:///var/run/docker.sock"
BROKER_PORT = 9092
CONTROLLER_PORT = 9093
ANSWER_WITHIN_S = 5


def engine_answers() -> bool:
    """Whether a Docker engine answers where the environment says, or at its usual socket."""
    # Asked first because docker's client leaves its socket open where nobody listens.
    if not somebody_listens(urlsplit(os.environ.get("DOCKER_HOST", USUAL_ADDRESS))):
        return False
    try:
        with closing(docker.from_env(timeout=ANSWER_WITHIN_S)) as client:
            return bool(client.ping())
    except DockerException:
        return False


def somebody_listens(address: SplitResult) -> bool:
    """Whether a connection to a ``unix://`` or ``tcp://`` address is accepted."""
    is_local = address.scheme == "unix"
    with socket.socket(socket.AF_UNIX if is_local else socket.AF_INET) as connection:
        connection.settimeout(ANSWER_WITHIN_S)
        try:
            connection.connect(address.path if is_local else (address.hostname, address.port))
        except OSError:
            return False
    return True


@contextmanager
def containers() -> Iterator[Mapping[str, str]]:
    """Run the servers as containers, and give their addresses."""
    (port,) = free_ports(1)
    with (
        kafka_container(port) as kafka,
        RedisContainer(REDIS_IMAGE) as redis,
        postgres_container() as postgres,
    ):
        yield {
            "HEADRACE_KAFKA": f"{kafka.get_container_host_ip()}:{port}",
            "HEADRACE_REDIS": f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0",
            "HEADRACE_DATABASE": postgres.get_connection_url(),
        }


def postgres_container() -> PostgresContainer:
    """Describe a server that keeps statistics of its statements, as the native one."""
    container = PostgresContainer(POSTGRES_IMAGE, username="headrace", dbname="headrace", driver="psycopg2")
    container.with_command(["postgres", "-c", "shared_preload_libraries=pg_stat_statements"])
    return container


def kafka_container(port: int) -> DockerContainer:
    """Describe a broker with the settings of the native one.

    Clients connect to the address that a broker advertises, so its port outside is chosen first.
    """
    node = Node(1, BROKER_PORT, CONTROLLER_PORT, Path("/var/lib/kafka"))
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(BROKER_PORT, port)
    advertised = {
        "listeners": f"BROKER://:{BROKER_PORT},CONTROLLER://:{CONTROLLER_PORT}",
        "advertised.listeners": f"BROKER://{container.get_container_host_ip()}:{port}",
    }
    for name, value in {**properties(node, (node,), node.data), **advertised}.items():
        # The image's rule for turning a setting into a variable.
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    return container.waiting_for(LogMessageWaitStrategy("Kafka Server started"))
