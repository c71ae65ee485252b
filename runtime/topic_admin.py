"""Create the topics that ``schemas/topics.py`` lists, and tell where existing ones differ from it."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from schemas import topics
from schemas.errors import HeadraceError, ServerUnreachable
from schemas.topics import Topic

#: Copies of each record; fewer where there are fewer brokers.
REPLICAS: Final = 3
TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.05
Answer = TypeVar("Answer")


class TopicsMissing(HeadraceError):
    """Kafka has not all the topics that the platform writes and reads."""

    code = "topics_missing"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"Kafka has no topic {', '.join(sorted(names))}. Run `headrace topics create`.")


class TopicRefused(HeadraceError):
    """The broker would not create or change a topic."""

    code = "topic_refused"


@dataclass(frozen=True)
class Difference:
    """A setting of a topic that is not as it should be; ``found`` is None where the topic is missing."""

    topic: Topic
    setting: str
    wanted: str
    found: str | None


class TopicAdmin:
    """The administrator's view of one cluster; no connection is open before the first question."""

    def __init__(self, bootstrap: str, timeout_s: float = TIMEOUT_S) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        # Errors come back from the calls; librdkafka's own lines on stderr would only repeat them.
        self._client = AdminClient({"bootstrap.servers": bootstrap, "client.id": "headrace-topics", "log_level": 0})

    def create_missing(self, wanted: Sequence[Topic] = topics.ALL) -> list[Topic]:
        """Create the topics that are not there; the ones that were created. Another caller may do the same.

        Raises:
            ServerUnreachable: no broker answered in time.
            TopicRefused: the broker would not create one.
        """
        brokers, partitions = self._metadata()
        missing = [topic for topic in wanted if topic.name not in partitions]
        replicas = min(REPLICAS, brokers)
        asked = [NewTopic(topic.name, topic.partitions, replicas, config=topic.config()) for topic in missing]
        if not asked:
            return []
        answers = self._client.create_topics(asked, operation_timeout=self._timeout_s)
        created = [topic for topic in missing if self._created(topic, answers[topic.name])]
        self._await(created)
        return created

    def missing(self, wanted: Sequence[Topic] = topics.ALL) -> list[Topic]:
        """The topics that are not there.

        Raises:
            ServerUnreachable: no broker answered in time.
        """
        _, partitions = self._metadata()
        return [topic for topic in wanted if topic.name not in partitions]

    def differences(self, wanted: Sequence[Topic] = topics.ALL) -> list[Difference]:
        """Where the cluster is not as ``wanted`` says. More partitions than wanted are no difference.

        Raises:
            ServerUnreachable: no broker answered in time.
        """
        _, partitions = self._metadata()
        there = [topic for topic in wanted if topic.name in partitions]
        configs = self._configs(there)
        found = [Difference(topic, "topic", "present", None) for topic in wanted if topic not in there]
        for topic in there:
            count = partitions[topic.name]
            if count < topic.partitions:
                found.append(Difference(topic, "partitions", str(topic.partitions), str(count)))
            settings = configs[topic.name]
            found.extend(
                Difference(topic, name, value, settings.get(name, ""))
                for name, value in topic.config().items()
                if settings.get(name) != value
            )
        return found

    def mend(self, differences: Sequence[Difference]) -> None:
        """Create, grow and set what ``differences`` names; repeating it changes nothing more.

        Raises:
            ServerUnreachable: no broker answered in time.
            TopicRefused: the broker would not change one.
        """
        self.create_missing([item.topic for item in differences if item.found is None])
        grown = [item.topic for item in differences if item.setting == "partitions"]
        if grown:
            asked = [NewPartitions(topic.name, topic.partitions) for topic in grown]
            for name, answer in self._client.create_partitions(asked).items():
                self._settled(name, answer)
        kept = [item for item in differences if item.found is not None and item.setting != "partitions"]
        altered = {item.topic.name: item.topic for item in kept}
        if altered:
            resources = [_resource(topic, _settings(topic)) for topic in altered.values()]
            for resource, done in self._client.incremental_alter_configs(resources).items():
                self._settled(resource.name, done)
        self._await(list({item.topic.name: item.topic for item in differences}.values()))

    def _await(self, changed: Sequence[Topic]) -> None:
        """Wait until a broker shows what the controller has written, for whoever asks it next."""
        deadline_s = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline_s and self.differences(changed):
            time.sleep(POLL_S)

    def _metadata(self) -> tuple[int, Mapping[str, int]]:
        """The number of brokers, and of partitions by topic."""
        try:
            cluster = self._client.list_topics(timeout=self._timeout_s)
        except KafkaException as error:
            raise ServerUnreachable("Kafka", self._bootstrap, error.args[0].str()) from error
        return len(cluster.brokers), {name: len(topic.partitions) for name, topic in cluster.topics.items()}

    def _configs(self, there: Sequence[Topic]) -> Mapping[str, Mapping[str, str]]:
        """The settings by topic; one that was just created is asked for until the broker that is asked knows of it."""
        found: dict[str, Mapping[str, str]] = {}
        deadline_s = time.monotonic() + self._timeout_s
        while left := [topic for topic in there if topic.name not in found]:
            answers = self._client.describe_configs([_resource(topic, []) for topic in left])
            for resource, answer in answers.items():
                try:
                    settings = self._settled(resource.name, answer)
                except TopicRefused as refused:
                    unknown = _code(refused.__cause__) == KafkaError.UNKNOWN_TOPIC_OR_PART
                    if not unknown or time.monotonic() > deadline_s:
                        raise
                    time.sleep(POLL_S)
                else:
                    found[resource.name] = {name: entry.value for name, entry in settings.items()}
        return found

    def _created(self, topic: Topic, answer: "Future[None]") -> bool:
        try:
            self._settled(topic.name, answer)
        except TopicRefused as refused:
            # Somebody created it since the metadata were read.
            if _code(refused.__cause__) == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise
        return True

    def _settled(self, topic: str, answer: "Future[Answer]") -> Answer:
        try:
            return answer.result(self._timeout_s)
        except TimeoutError as error:
            raise ServerUnreachable("Kafka", self._bootstrap, f"no answer within {self._timeout_s:g} s") from error
        except KafkaException as error:
            raise TopicRefused(f"Topic {topic}: {error.args[0].str()}") from error


def _resource(topic: Topic, entries: list[ConfigEntry]) -> ConfigResource:
    return ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)


def _settings(topic: Topic) -> list[ConfigEntry]:
    return [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in topic.config().items()
    ]


def _code(cause: BaseException | None) -> int | None:
    return cause.args[0].code() if isinstance(cause, KafkaException) else None
