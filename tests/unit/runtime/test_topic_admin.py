"""Topics that one broker knows of, and another does not yet."""

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource

from runtime.topic_admin import TopicAdmin, TopicRefused
from schemas.topics import CONTROL, WORK

TOPICS = (CONTROL, WORK)


class LateBroker:
    """Has all topics in its metadata, and answers for one of them with ``refusals`` before it tells its settings."""

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.asked: list[int] = []

    def list_topics(self, timeout: float) -> Any:  # noqa: ARG002
        known = {topic.name: SimpleNamespace(partitions=range(topic.partitions)) for topic in TOPICS}
        return SimpleNamespace(brokers={1: None}, topics=known)

    def describe_configs(self, resources: Sequence[ConfigResource]) -> dict[ConfigResource, "Future[Any]"]:
        self.asked.append(len(resources))
        return {resource: self._answer(resource.name) for resource in resources}

    def _answer(self, name: str) -> "Future[Any]":
        answer: Future[Any] = Future()
        if name == WORK.name and self.refusals:
            answer.set_exception(KafkaException(KafkaError(self.refusals.pop(0))))
        else:
            (topic,) = (topic for topic in TOPICS if topic.name == name)
            answer.set_result({key: SimpleNamespace(value=value) for key, value in topic.config().items()})
        return answer


def admin(broker: LateBroker) -> TopicAdmin:
    made = TopicAdmin("127.0.0.1:1")
    vars(made)["_client"] = broker
    return made


def test_a_broker_that_has_not_heard_of_a_topic_is_asked_again_for_that_one() -> None:
    broker = LateBroker(KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_OR_PART)
    assert admin(broker).differences(TOPICS) == []
    assert broker.asked == [2, 1, 1]


def test_another_error_is_told() -> None:
    with pytest.raises(TopicRefused, match=WORK.name):
        admin(LateBroker(KafkaError.TOPIC_AUTHORIZATION_FAILED)).differences(TOPICS)
