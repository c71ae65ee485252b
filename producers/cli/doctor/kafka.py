"""Kafka itself, its topics, and who was heard of in it."""

from collections.abc import Sequence
from typing import Final

from producers.cli.doctor.finding import Finding, Health
from producers.cli.doctor.workers import examine_workers
from producers.cli.target import Target
from producers.cli.topics import repair
from runtime.kafka_version import kafka_version
from runtime.topic_admin import TopicAdmin, TopicRefused
from runtime.topic_differences import Difference
from schemas.errors import ServerUnreachable
from schemas.topics import ALL, WORKERS

TIMEOUT_S: Final = 5.0


def examine_kafka(target: Target) -> list[Finding]:
    """Kafka, and if it is there, its topics and the workers."""
    address = target.settings.kafka
    differences: list[Difference] = []
    try:
        differences = TopicAdmin(address, TIMEOUT_S).differences()
        topics = _topics(address, differences)
    except TopicRefused as error:
        allow = "allow DescribeConfigs on the topics"
        topics = Finding("topics", address, Health.WRONG, problem=str(error), repair=allow)
    except ServerUnreachable as error:
        return [Finding("kafka", address, Health.UNREACHABLE, problem=error.reason, repair=target.start("KAFKA"))]
    findings = [Finding("kafka", address, Health.OK, _version(address)), topics]
    if any(item.topic == WORKERS and item.found is None for item in differences):
        return findings
    return [*findings, examine_workers(target)]


def _version(bootstrap: str) -> str:
    for address in bootstrap.split(","):
        try:
            return kafka_version(address.strip(), TIMEOUT_S)
        except ServerUnreachable:
            # Another broker answered before, or none would be asked.
            continue
    return "unknown"


def _topics(address: str, differences: Sequence[Difference]) -> Finding:
    if not differences:
        return Finding("topics", address, Health.OK, f"{len(ALL)} topics")
    first, more = differences[0], len(differences) - 1
    was = f"{first.setting} is {first.found}, not {first.wanted}" if first.found else "is missing"
    problem = f"{first.topic.name} {was}{f', and {more} more' if more else ''}"
    return Finding("topics", address, Health.WRONG, problem=problem, repair=repair(differences))
