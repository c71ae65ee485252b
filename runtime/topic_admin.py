"""Create the topics that ``schemas/topics.py`` lists, and tell where existing ones differ from it."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
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

from runtime.topic_differences import COPIES, PARTITIONS, Difference, Layout, differences_of, settings_of
from schemas import topics
from schemas.errors import HeadraceError, ServerUnreachable
from schemas.topics import Topic

#: The setting of a broker that tells how many brokers there are meant to be.
_OFFSETS_REPLICATION: Final = "offsets.topic.replication.factor"
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


class TopicAdmin:
    """The administrator's view of one cluster; no connection is open before the first question."""

    def __init__(self, bootstrap: str, timeout_s: float = TIMEOUT_S) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        # Errors come back from the calls; librdkafka's own lines on stderr would only repeat them.
        self._client = AdminClient({"bootstrap.servers": bootstrap, "client.id": "headrace-topics", "log_level": 0})

    def copies(self) -> int:
        """How many copies each topic is to have: ``COPIES``, or as many as a smaller cluster is meant to have brokers.

        The brokers that are there can't say that, as others may not be up yet. Their offsets.topic.replication.factor
        does: no consumer group works in a cluster that has fewer brokers.

        Raises:
            ServerUnreachable: no broker answered in time.
        """
        brokers, _ = self._metadata()
        return self._copies(brokers)

    def create_missing(self, wanted: Sequence[Topic] = topics.ALL) -> list[Topic]:
        """Create the topics that are not there; the ones that were created. Another caller may do the same.

        Raises:
            ServerUnreachable: no broker answered in time.
            TopicRefused: the broker would not create one. It would not where too few brokers are there for all copies.
        """
        brokers, layouts = self._metadata()
        missing = [topic for topic in wanted if topic.name not in layouts]
        if not missing:
            return []
        copies = self._copies(brokers)
        asked = [NewTopic(topic.name, topic.partitions, copies, config=settings_of(topic, copies)) for topic in missing]
        answers = self._client.create_topics(asked, operation_timeout=self._timeout_s)
        created = [topic for topic in missing if self._created(topic, copies, answers[topic.name])]
        self._await(created)
        return created

    def missing(self, wanted: Sequence[Topic] = topics.ALL) -> list[Topic]:
        """The topics that are not there.

        Raises:
            ServerUnreachable: no broker answered in time.
        """
        _, layouts = self._metadata()
        return [topic for topic in wanted if topic.name not in layouts]

    def differences(self, wanted: Sequence[Topic] = topics.ALL) -> list[Difference]:
        """Where the cluster is not as ``wanted`` says. More partitions or copies than wanted are no difference.

        Raises:
            ServerUnreachable: no broker answered in time.
            TopicRefused: a topic's settings may not be read.
        """
        brokers, layouts = self._metadata()
        there = [topic for topic in wanted if topic.name in layouts]
        configs = self._configs(there)
        found = [Difference(topic, "topic", "present", None) for topic in wanted if topic not in there]
        copies = self._copies(brokers) if there else 0
        for topic in there:
            found.extend(differences_of(topic, copies, layouts[topic.name], configs[topic.name]))
        return found

    def mend(self, differences: Sequence[Difference]) -> list[Difference]:
        """Create, grow and set what ``differences`` names; repeating it changes nothing more. What is left.

        That is too few copies: which brokers take more, and how fast, Kafka's kafka-reassign-partitions.sh is told.

        Raises:
            ServerUnreachable: no broker answered in time.
            TopicRefused: the broker would not change one.
        """
        self.create_missing([item.topic for item in differences if item.found is None])
        grown = [item.topic for item in differences if item.setting == PARTITIONS]
        if grown:
            asked = [NewPartitions(topic.name, topic.partitions) for topic in grown]
            for name, answer in self._client.create_partitions(asked).items():
                self._settled(f"Topic {name}", answer)
        altered: dict[str, list[ConfigEntry]] = {}
        for item in differences:
            if item.found is not None and item.setting not in (PARTITIONS, COPIES):
                entry = ConfigEntry(item.setting, item.wanted, incremental_operation=AlterConfigOpType.SET)
                altered.setdefault(item.topic.name, []).append(entry)
        if altered:
            resources = [_resource(name, entries) for name, entries in altered.items()]
            for resource, done in self._client.incremental_alter_configs(resources).items():
                self._settled(f"Topic {resource.name}", done)
        self._await(list({item.topic.name: item.topic for item in differences}.values()))
        return [item for item in differences if item.setting == COPIES]

    def _await(self, changed: Sequence[Topic]) -> None:
        """Wait until a broker shows what the controller has written, for whoever asks it next."""
        deadline_s = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline_s and any(item.setting != COPIES for item in self.differences(changed)):
            time.sleep(POLL_S)

    def _metadata(self) -> tuple[Sequence[int], Mapping[str, Layout]]:
        """The numbers of the brokers that are there, and how each topic lies."""
        try:
            cluster = self._client.list_topics(timeout=self._timeout_s)
        except KafkaException as error:
            raise ServerUnreachable("Kafka", self._bootstrap, error.args[0].str()) from error
        layouts = {}
        for name, topic in cluster.topics.items():
            copies = (len(partition.replicas) for partition in topic.partitions.values())
            layouts[name] = Layout(len(topic.partitions), min(copies, default=0))
        return sorted(cluster.brokers), layouts

    def _copies(self, brokers: Sequence[int]) -> int:
        if len(brokers) >= topics.COPIES:
            return topics.COPIES
        return min(topics.COPIES, max(len(brokers), self._meant(brokers)))

    def _meant(self, brokers: Sequence[int]) -> int:
        """How many brokers the cluster is meant to have at least, as the first one says."""
        asked = [ConfigResource(ResourceType.BROKER, str(broker)) for broker in brokers[:1]]
        for resource, answer in self._client.describe_configs(asked).items():
            # Who may not ask takes it for what it is unless it was set.
            with suppress(TopicRefused):
                entry = self._settled(f"Broker {resource.name}", answer).get(_OFFSETS_REPLICATION)
                if entry is not None and entry.value is not None:
                    return int(entry.value)
        return topics.COPIES

    def _configs(self, there: Sequence[Topic]) -> Mapping[str, Mapping[str, str]]:
        """The settings by topic; one that was just created is asked for until the broker that is asked knows of it."""
        found: dict[str, Mapping[str, str]] = {}
        deadline_s = time.monotonic() + self._timeout_s
        while left := [topic for topic in there if topic.name not in found]:
            answers = self._client.describe_configs([_resource(topic.name, []) for topic in left])
            for resource, answer in answers.items():
                try:
                    settings = self._settled(f"Topic {resource.name}", answer)
                except TopicRefused as refused:
                    unknown = _code(refused.__cause__) == KafkaError.UNKNOWN_TOPIC_OR_PART
                    if not unknown or time.monotonic() > deadline_s:
                        raise
                    time.sleep(POLL_S)
                else:
                    found[resource.name] = {name: entry.value for name, entry in settings.items()}
        return found

    def _created(self, topic: Topic, copies: int, answer: "Future[None]") -> bool:
        try:
            self._settled(f"Topic {topic.name}", answer)
        except TopicRefused as refused:
            code = _code(refused.__cause__)
            # Somebody created it since the metadata were read.
            if code == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            if code == KafkaError.INVALID_REPLICATION_FACTOR:
                raise TopicRefused(
                    f"{refused} Each topic is to have {copies} copies: start the other brokers, and repeat this. A "
                    f"cluster that is meant to have fewer says so by its brokers' {_OFFSETS_REPLICATION}."
                ) from refused.__cause__
            raise
        return True

    def _settled(self, what: str, answer: "Future[Answer]") -> Answer:
        try:
            return answer.result(self._timeout_s)
        except TimeoutError as error:
            raise ServerUnreachable("Kafka", self._bootstrap, f"no answer within {self._timeout_s:g} s") from error
        except KafkaException as error:
            raise TopicRefused(f"{what}: {error.args[0].str()}") from error


def _resource(topic: str, entries: list[ConfigEntry]) -> ConfigResource:
    return ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)


def _code(cause: BaseException | None) -> int | None:
    return cause.args[0].code() if isinstance(cause, KafkaException) else None
