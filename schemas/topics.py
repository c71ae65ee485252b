"""Every topic: the only place where a name, a key rule, a partition count or a retention is written."""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from schemas import limits

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
#: Copies of each record, each on a broker of its own; a cluster that is meant to be smaller has fewer.
COPIES: Final = 3


class Kind(StrEnum):
    """What a request asks for."""

    GENERATE = "generate"
    FINETUNE = "finetune"
    EVALUATE = "evaluate"


class Topic(Struct, frozen=True):
    """One topic as it has to exist in Kafka.

    ``key`` says in words what its records are keyed by. ``retention_ms`` is None for a compacted
    topic. ``log_append_time`` has the broker stamp the records, so that their age can be trusted.
    """

    name: str
    key: str
    partitions: int
    retention_ms: int | None
    max_message_bytes: int = limits.DERIVED_TOPIC_BYTES
    log_append_time: bool = False

    @property
    def dead_letters(self) -> str:
        """The name of the topic that takes what can't be admitted from this one."""
        return f"{self.name}.dlq"

    def config(self) -> dict[str, str]:
        """The topic's settings in Kafka's own names."""
        kept = (
            {"cleanup.policy": "compact"}
            if self.retention_ms is None
            else {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
        )
        stamp = "LogAppendTime" if self.log_append_time else "CreateTime"
        return kept | {"max.message.bytes": str(self.max_message_bytes), "message.timestamp.type": stamp}


def _requests(kind: Kind) -> Topic:
    return Topic(f"headrace.requests.{kind}.v1", "any", 3, 7 * DAY_MS, limits.REQUEST_TOPIC_BYTES)


REQUESTS: Final = {kind: _requests(kind) for kind in Kind}
CONTROL: Final = Topic("headrace.control.v1", "job id", 3, 7 * DAY_MS, limits.REQUEST_TOPIC_BYTES, log_append_time=True)
#: A worker reads one partition, its own; the dispatcher writes to it by number.
WORK: Final = Topic("headrace.work.v1", "job id", limits.WORKER_PARTITIONS, DAY_MS)
#: A pool is one partition; the dispatcher that owns the partition schedules the pool's jobs.
WORKERS: Final = Topic("headrace.workers.v1", "worker id", 1, HOUR_MS, log_append_time=True)
PROGRESS: Final = Topic("headrace.progress.v1", "job id", 3, DAY_MS)
STATUS: Final = Topic("headrace.status.v1", "job id", 3, None)
RESULTS: Final = Topic("headrace.results.v1", "job id", 3, 30 * DAY_MS)
METRICS: Final = Topic("headrace.metrics.v1", "source", 1, DAY_MS, log_append_time=True)
DEAD_LETTERS: Final = {
    kind: Topic(topic.dead_letters, "the original's", 1, 30 * DAY_MS) for kind, topic in REQUESTS.items()
}

ALL: Final = (
    *REQUESTS.values(), CONTROL, WORK, WORKERS, PROGRESS, STATUS, RESULTS, METRICS, *DEAD_LETTERS.values(),
)  # fmt: skip


def in_sync(copies: int) -> int:
    """How many of the copies a record must have before Kafka acknowledges it (``min.insync.replicas``).

    One may be away, and the topic is written all the same. With fewer, a broker's loss would take along what it
    acknowledged alone.
    """
    return max(1, copies - 1)


def kind_of(request_topic: str) -> Kind:
    """The kind of the requests on a topic.

    Raises:
        KeyError: the topic carries no requests.
    """
    return _KIND_OF[request_topic]


_KIND_OF: Final = {topic.name: kind for kind, topic in REQUESTS.items()}
