"""Topics as a real broker has them."""

import secrets
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from runtime.topic_admin import TopicAdmin, TopicRefused
from runtime.topic_differences import Difference
from schemas.errors import ServerUnreachable
from schemas.topics import Topic, in_sync


@pytest.fixture
def names(kafka: str) -> Iterator[list[str]]:
    """Names of topics that are removed after the test."""
    used = [f"test-{secrets.token_hex(4)}-{number}" for number in range(2)]
    yield used
    client = AdminClient({"bootstrap.servers": kafka})
    there = [name for name in used if name in client.list_topics(timeout=10).topics]
    if there:
        for removed in client.delete_topics(there).values():
            removed.result(10)


def plan(names: Sequence[str]) -> list[Topic]:
    return [Topic(names[0], "any", 3, 60_000), Topic(names[1], "any", 1, None, log_append_time=True)]


def test_missing_topics_are_created_as_planned_and_only_once(kafka: str, names: list[str]) -> None:
    admin, wanted = TopicAdmin(kafka), plan(names)

    assert [(item.topic, item.found) for item in admin.differences(wanted)] == [(topic, None) for topic in wanted]
    assert admin.create_missing(wanted) == wanted
    assert admin.differences(wanted) == []
    assert admin.create_missing(wanted) == []


def test_a_topic_says_itself_how_many_copies_a_record_must_have(kafka: str, names: list[str]) -> None:
    admin, wanted = TopicAdmin(kafka), plan(names)[:1]
    admin.create_missing(wanted)
    setting = config_of(kafka, names[0])["min.insync.replicas"]

    assert (setting.value, setting.is_default) == (str(in_sync(admin.copies())), False)


def test_every_setting_that_differs_is_named_and_mended(kafka: str, names: list[str]) -> None:
    admin, wanted = TopicAdmin(kafka), plan(names)
    admin.create_missing([Topic(names[0], "any", 1, 1_000, max_message_bytes=2_000)])
    differences = admin.differences(wanted)

    assert differences == [
        Difference(wanted[1], "topic", "present", None),
        Difference(wanted[0], "partitions", "3", "1"),
        Difference(wanted[0], "retention.ms", "60000", "1000"),
        Difference(wanted[0], "max.message.bytes", "8388608", "2000"),
    ]
    admin.mend(differences)
    assert admin.differences(wanted) == []


def test_mending_leaves_settings_alone_that_the_contract_does_not_name(kafka: str, names: list[str]) -> None:
    admin, wanted = TopicAdmin(kafka), plan(names)[:1]
    admin.create_missing([Topic(names[0], "any", 3, 1_000)])
    setting = ConfigEntry("segment.ms", "123456", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, names[0], incremental_configs=[setting])
    client = AdminClient({"bootstrap.servers": kafka})
    client.incremental_alter_configs([resource])[resource].result(10)
    admin.mend(admin.differences(wanted))

    assert admin.differences(wanted) == []
    assert config_of(kafka, names[0])["segment.ms"].value == "123456"


def test_more_partitions_than_planned_are_no_difference(kafka: str, names: list[str]) -> None:
    admin, wanted = TopicAdmin(kafka), plan(names)[:1]
    admin.create_missing(wanted)
    client = AdminClient({"bootstrap.servers": kafka})
    client.create_partitions([NewPartitions(names[0], 5)])[names[0]].result(10)

    assert admin.differences(wanted) == []


def test_what_the_broker_refuses_is_told_by_topic(kafka: str, names: list[str]) -> None:
    with pytest.raises(TopicRefused, match=rf"Topic {names[0]}: .*retention"):
        TopicAdmin(kafka).create_missing([Topic(names[0], "any", 1, -5)])


def test_a_broker_that_is_away_is_told_in_time() -> None:
    with pytest.raises(ServerUnreachable, match=r"Kafka at 127\.0\.0\.1:1 is not reachable"):
        TopicAdmin("127.0.0.1:1", timeout_s=1).differences()


def config_of(kafka: str, name: str) -> dict[str, ConfigEntry]:
    client, resource = AdminClient({"bootstrap.servers": kafka}), ConfigResource(ResourceType.TOPIC, name)
    found: dict[str, ConfigEntry] = client.describe_configs([resource])[resource].result(10)
    return found
