"""The topics are those of the design, with its retention."""

from schemas.topics import ALL, DEAD_LETTERS, REQUESTS, STATUS, WORK, WORKERS, Kind

KEPT_HOURS = {
    "headrace.requests.generate.v1": 7 * 24,
    "headrace.requests.finetune.v1": 7 * 24,
    "headrace.requests.evaluate.v1": 7 * 24,
    "headrace.control.v1": 7 * 24,
    "headrace.work.v1": 24,
    "headrace.workers.v1": 1,
    "headrace.progress.v1": 24,
    "headrace.status.v1": None,
    "headrace.results.v1": 30 * 24,
    "headrace.metrics.v1": 24,
    "headrace.requests.generate.v1.dlq": 30 * 24,
    "headrace.requests.finetune.v1.dlq": 30 * 24,
    "headrace.requests.evaluate.v1.dlq": 30 * 24,
}
KEYS = {
    "headrace.control.v1": "job id",
    "headrace.work.v1": "job id",
    "headrace.workers.v1": "worker id",
    "headrace.progress.v1": "job id",
    "headrace.status.v1": "job id",
    "headrace.results.v1": "job id",
    "headrace.metrics.v1": "source",
}


def test_every_topic_of_the_design_is_kept_as_long_as_it_says() -> None:
    assert {topic.name: topic.retention_ms and topic.retention_ms // 3_600_000 for topic in ALL} == KEPT_HOURS


def test_every_topic_is_keyed_as_the_design_says() -> None:
    assert {topic.name: topic.key for topic in ALL if topic.name in KEYS} == KEYS


def test_every_request_topic_has_its_dead_letters() -> None:
    assert {kind: REQUESTS[kind].dead_letters for kind in Kind} == {
        kind: topic.name for kind, topic in DEAD_LETTERS.items()
    }


def test_a_dead_letter_takes_any_record_of_its_topic() -> None:
    for kind, topic in REQUESTS.items():
        assert DEAD_LETTERS[kind].max_message_bytes > topic.max_message_bytes


def test_the_status_topic_is_compacted_and_the_others_are_not() -> None:
    assert [topic for topic in ALL if topic.config()["cleanup.policy"] == "compact"] == [STATUS]
    assert "retention.ms" not in STATUS.config()


def test_settings_are_text_in_kafkas_own_names() -> None:
    assert WORKERS.config() == {
        "cleanup.policy": "delete",
        "retention.ms": "3600000",
        "max.message.bytes": "8388608",
        "message.timestamp.type": "LogAppendTime",
    }
    for topic in ALL:
        assert all(type(value) is str for value in topic.config().values())


def test_each_worker_of_a_full_cluster_has_a_partition() -> None:
    assert WORK.partitions == 64
