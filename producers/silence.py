"""Whether Kafka is away, noticed while nothing is read from it: librdkafka itself tries again for ever."""

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaError, Message

from producers.cluster import Cluster
from schemas.errors import ServerUnreachable

#: After so much silence the brokers are asked whether they are still there: longer than a leader's election.
SILENCE_S: Final = 15.0
#: librdkafka reports these and goes on by itself.
_PASSING: Final = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE})


class Silence:
    """Hears what one reader's polls come to. For one thread."""

    def __init__(self, cluster: Cluster, silence_s: float = SILENCE_S) -> None:
        self._cluster = cluster
        self._silence_s = silence_s
        self._since_s = time.monotonic()

    def hear(self, messages: Sequence[Message]) -> None:
        """Take notice of what a poll came to.

        Raises:
            ServerUnreachable: nothing has come for long and no broker answers, or one refuses to be read.
        """
        for message in messages:
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                self._since_s = time.monotonic()
            elif error.code() not in _PASSING:
                raise ServerUnreachable("Kafka", self._cluster.bootstrap, error.str())
        if time.monotonic() - self._since_s > self._silence_s:
            self._cluster.check()
            self._since_s = time.monotonic()
