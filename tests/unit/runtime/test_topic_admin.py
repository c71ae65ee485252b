"""Topics of a cluster that is not all there yet, or has them as an older release or somebody else made them."""

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from runtime.topic_admin import TopicAdmin, TopicRefused
from runtime.topic_differences import Difference
from schemas.topics import CONTROL, RESULTS, WORK, Topic

TOPICS = (CONTROL, WORK)


class StandIn:
    """A cluster's answers: which brokers are up, how many it says that it is meant to have, and its topics."""

    def __init__(self, *there: Topic, up: int = 1, meant: int | None = 1, copies: int = 1, in_sync: str = "1") -> None:
        self.there, self.up, self.meant, self.copies, self.in_sync = list(there), up, meant, copies, in_sync
        #: What it answers for WORK's settings, and to a creation, before it does as it is told.
        self.refusals: list[int] = []
        self.refused_creation: int | None = None
        self.asked: list[int] = []
        self.created: list[NewTopic] = []
        self.set: list[tuple[str, str, str]] = []

    def list_topics(self, timeout: float) -> Any:  # noqa: ARG002
        partition = SimpleNamespace(replicas=range(self.copies))
        topics = {topic.name: dict.fromkeys(range(topic.partitions), partition) for topic in self.there}
        known = {name: SimpleNamespace(partitions=partitions) for name, partitions in topics.items()}
        return SimpleNamespace(brokers=dict.fromkeys(range(1, self.up + 1)), topics=known)

    def describe_configs(self, resources: Sequence[ConfigResource]) -> dict[ConfigResource, "Future[Any]"]:
        if resources[0].restype is ResourceType.TOPIC:
            self.asked.append(len(resources))
        return {resource: self._settings(resource) for resource in resources}

    def create_topics(self, asked: Sequence[NewTopic], operation_timeout: float) -> dict[str, "Future[None]"]:  # noqa: ARG002
        if self.refused_creation is not None:
            return {new.topic: refused(self.refused_creation) for new in asked}
        self.created += asked
        self.there += [topic for topic in (*TOPICS, RESULTS) if topic.name in {new.topic for new in asked}]
        self.copies, self.in_sync = copies_of(asked[0])
        return {new.topic: settled(None) for new in asked}

    def incremental_alter_configs(self, resources: Sequence[ConfigResource]) -> dict[ConfigResource, "Future[None]"]:
        for resource in resources:
            self.set += [(resource.name, entry.name, entry.value or "") for entry in resource.incremental_configs]
            self.in_sync = self.set[-1][2]
        return {resource: settled(None) for resource in resources}

    def _settings(self, resource: ConfigResource) -> "Future[Any]":
        if resource.restype is ResourceType.BROKER:
            if self.meant is None:
                return refused(KafkaError.CLUSTER_AUTHORIZATION_FAILED)
            return settled({"offsets.topic.replication.factor": SimpleNamespace(value=str(self.meant))})
        if resource.name == WORK.name and self.refusals:
            return refused(self.refusals.pop(0))
        (topic,) = (topic for topic in self.there if topic.name == resource.name)
        settings = topic.config() | {"min.insync.replicas": self.in_sync}
        return settled({key: SimpleNamespace(value=value) for key, value in settings.items()})


def copies_of(new: NewTopic) -> tuple[int, str]:
    assert new.config is not None
    return new.replication_factor, new.config["min.insync.replicas"]


def settled(answer: object) -> "Future[Any]":
    given: Future[Any] = Future()
    given.set_result(answer)
    return given


def refused(code: int) -> "Future[Any]":
    given: Future[Any] = Future()
    given.set_exception(KafkaException(KafkaError(code)))
    return given


def admin(cluster: StandIn) -> TopicAdmin:
    made = TopicAdmin("127.0.0.1:1")
    vars(made)["_client"] = cluster
    return made


def test_a_broker_that_has_not_heard_of_a_topic_is_asked_again_for_that_one() -> None:
    cluster = StandIn(*TOPICS)
    cluster.refusals = [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_OR_PART]
    assert admin(cluster).differences(TOPICS) == []
    assert cluster.asked == [2, 1, 1]


def test_another_error_is_told() -> None:
    cluster = StandIn(*TOPICS)
    cluster.refusals = [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    with pytest.raises(TopicRefused, match=WORK.name):
        admin(cluster).differences(TOPICS)


@pytest.mark.parametrize(
    ("up", "meant", "copies", "in_sync"),
    [
        (1, 1, 1, "1"),
        (2, 1, 2, "1"),
        (3, 1, 3, "2"),
        (5, 3, 3, "2"),
        # Three brokers of which the first is up, and one that may not be asked.
        (1, 3, 3, "2"),
        (2, 3, 3, "2"),
        (1, None, 3, "2"),
    ],
)
def test_topics_get_the_copies_that_the_cluster_is_meant_for_however_many_brokers_are_up(
    up: int, meant: int | None, copies: int, in_sync: str
) -> None:
    cluster = StandIn(up=up, meant=meant)
    assert admin(cluster).create_missing(TOPICS) == list(TOPICS)
    assert [copies_of(new) for new in cluster.created] == [(copies, in_sync)] * 2


def test_too_few_brokers_for_all_copies_are_told_with_what_to_do() -> None:
    cluster = StandIn(meant=3)
    cluster.refused_creation = KafkaError.INVALID_REPLICATION_FACTOR
    with pytest.raises(TopicRefused, match=r"3 copies: start the other brokers.*offsets\.topic\.replication\.factor"):
        admin(cluster).create_missing(TOPICS)


def test_a_topic_with_too_few_copies_is_told_and_not_taken_for_mended() -> None:
    cluster = StandIn(RESULTS, up=3, copies=1, in_sync="2")
    found = admin(cluster).differences([RESULTS])
    few = Difference(RESULTS, "replication.factor", "3", "1")

    # With two copies wanted in sync of the one that is there, nothing can be written.
    assert found == [few, Difference(RESULTS, "min.insync.replicas", "1", "2")]
    assert admin(cluster).mend(found) == [few]
    assert cluster.set == [(RESULTS.name, "min.insync.replicas", "1")]


@pytest.mark.parametrize(("in_sync", "differs"), [("1", True), ("2", False), ("3", False), ("4", True)])
def test_a_record_must_be_in_all_copies_but_one_at_least(in_sync: str, differs: bool) -> None:
    found = admin(StandIn(RESULTS, up=3, copies=3, in_sync=in_sync)).differences([RESULTS])
    assert found == ([Difference(RESULTS, "min.insync.replicas", "2", in_sync)] if differs else [])


def test_a_broker_that_is_away_makes_no_difference() -> None:
    assert admin(StandIn(*TOPICS, up=2, meant=3, copies=3, in_sync="2")).differences(TOPICS) == []
