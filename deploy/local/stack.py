"""What a stack consists of: servers, then the steps between, then Headrace's own processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.paths import StackPaths
from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.processes import dispatcher, steps, worker
from deploy.local.servers.kafka import bootstrap, kafka
from deploy.local.servers.postgres import find_home, postgres
from deploy.local.servers.redis import redis
from deploy.local.service import Command, Service
from deploy.local.state import METRICS_ADDRESS


@dataclass(frozen=True)
class Plan:
    """What to run, as the command line says it."""

    directory: Path
    #: Workers to start; the dispatcher, the topics and the tables come with them.
    workers: int = 2
    servers_only: bool = False
    brokers: int = 1
    #: False: the database does not fsync.
    durable: bool = True

    @property
    def paths(self) -> StackPaths:
        """The files of this stack."""
        return StackPaths(self.directory)

    def arguments(self) -> tuple[str, ...]:
        """The command-line arguments that say the same."""
        numbers = ("--workers", str(self.workers), "--brokers", str(self.brokers))
        flags = ("--servers-only",) if self.servers_only else ()
        return ("--dir", str(self.directory), *numbers, *flags, "--durable" if self.durable else "--fast")


@dataclass(frozen=True)
class Stage:
    """Steps to run at once, and services to start at once after them."""

    steps: Mapping[str, Command]
    services: tuple[Service, ...]


@dataclass(frozen=True)
class Stack:
    """The stages in their order of start, and the addresses that they will have."""

    stages: tuple[Stage, ...]
    environment: Mapping[str, str]


def design(plan: Plan) -> Stack:
    """Choose ports, write the servers' configuration, and describe everything that will run."""
    redis_port, postgres_port, metrics_port, *kafka_ports = free_ports(3 + 2 * plan.brokers)
    listeners = tuple(zip(kafka_ports[::2], kafka_ports[1::2], strict=True))
    home = find_home(plan.paths.postgres)
    servers = (
        *kafka(plan.directory / "kafka", listeners),
        redis(plan.directory / "redis", redis_port),
        postgres(home, postgres_port, durable=plan.durable),
    )
    environment = {
        "HEADRACE_KAFKA": bootstrap(listeners),
        "HEADRACE_REDIS": f"redis://{LOOPBACK}:{redis_port}/0",
        "HEADRACE_DATABASE": home.url(postgres_port),
    }
    if plan.servers_only:
        return Stack((Stage({}, servers),), environment)
    workers = (worker(number, plan.paths) for number in range(1, plan.workers + 1))
    processes = (dispatcher(plan.paths, metrics_port), *workers)
    metrics = {METRICS_ADDRESS: f"http://{LOOPBACK}:{metrics_port}"}
    return Stack((Stage({}, servers), Stage(steps(), processes)), environment | metrics)
