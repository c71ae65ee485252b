"""Dead letters on the command line, against a real Kafka."""

import json
import secrets

import pytest
from confluent_kafka import TopicPartition

from producers.cli.exits import Exit
from runtime.kafka import Publisher
from runtime.kafka_consumers import placed_consumer
from schemas.dead_letters import DeadLetter
from schemas.topics import DEAD_LETTERS, REQUESTS, Kind
from tests.integration.producers.conftest import Call

MALFORMED = b'{"model": \xff\x1b[31m'
TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


class Refusals:
    """Writes dead letters as the dispatcher does, all with one code of their own."""

    def __init__(self, kafka: str) -> None:
        self.code = f"code_{secrets.token_hex(4)}"
        self._kafka = kafka

    def write(self, kind: Kind, value: bytes, *, code: str = "", key: bytes | None = None, attempts: int = 1) -> None:
        """One letter."""
        letter = DeadLetter(
            topic=REQUESTS[kind].name,
            partition=2,
            offset=41,
            timestamp_ms=1_795_000_000_000,
            attempts=attempts,
            error_code=code or self.code,
            error_message="Expected `int`, got `str` - at `$.n` (got 'x')",
        )
        self.raw(kind, value, [TRACE, *letter.headers()], key)

    def raw(self, kind: Kind, value: bytes, headers: list[tuple[str, bytes]], key: bytes | None = None) -> None:
        """One record of a dead-letter topic."""
        publisher = Publisher(self._kafka, "test")
        publisher.publish_raw(DEAD_LETTERS[kind].name, key, value, headers)
        publisher.close()


@pytest.fixture
def refusals(topics_created: str) -> Refusals:
    return Refusals(topics_created)


def ends(kafka: str, kind: Kind) -> dict[int, int]:
    """The end of each partition of the request topic."""
    consumer = placed_consumer(kafka, [])
    topic = REQUESTS[kind]
    try:
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic.name, number), 10)[1]
            for number in range(topic.partitions)
        }
    finally:
        consumer.close()


def arrived(kafka: str, kind: Kind, since: dict[int, int]) -> list[tuple[object, object, object]]:
    """Key, value and headers of what was written to the request topic since then."""
    places = [TopicPartition(REQUESTS[kind].name, number, offset) for number, offset in since.items()]
    consumer = placed_consumer(kafka, places)
    try:
        return [(item.key(), item.value(), item.headers()) for item in consumer.consume(100, 2.0) if not item.error()]
    finally:
        consumer.close()


def test_ls_lists_letters_by_kind_and_reason(headrace: Call, refusals: Refusals) -> None:
    refusals.write(Kind.GENERATE, b'{"id": "job-1", "tenant": "acme", "n": "x"}')
    refusals.write(Kind.FINETUNE, MALFORMED, attempts=3)
    refusals.write(Kind.GENERATE, b"{}", code="another_code")
    both = json.loads(headrace("dlq", "ls", "--code", refusals.code, "-o", "json").out)
    assert [(item["tenant"], item["id"], item["attempts"]) for item in both] == [
        ("acme", "job-1", 1), (None, None, 3),
    ]  # fmt: skip
    table = headrace("dlq", "ls", "--code", refusals.code, "--kind", "generate").out
    assert "acme/job-1" in table
    assert "Expected `int`, got `str`" in table
    assert len(headrace("dlq", "ls", "--code", refusals.code, "--last", "1", "-o", "name").out.split()) == 1
    assert headrace("dlq", "ls", "--code", "no_such_code").out == ""


def test_show_prints_headers_and_bytes_that_a_terminal_can_bear(headrace: Call, refusals: Refusals) -> None:
    refusals.write(Kind.EVALUATE, MALFORMED, key=b"some key")
    (position,) = headrace("dlq", "ls", "--code", refusals.code, "-o", "name").out.split()
    assert position.startswith("evaluate-0-")
    table = headrace("dlq", "show", position).out
    assert "\x1b" not in table
    for words in ("some key", "dlq.error.code", refusals.code, "headrace.requests.evaluate.v1", "\\xff", "\\x1b[31m"):
        assert words in table
    shown = json.loads(headrace("dlq", "show", position, "-o", "json").out)
    assert (shown["value"], shown["key"]) == (None, "some key")
    assert shown["value_base64"] == "eyJtb2RlbCI6IP8bWzMxbQ=="


def test_a_dry_run_says_what_it_would_send_and_sends_nothing(
    headrace: Call, refusals: Refusals, topics_created: str
) -> None:
    refusals.write(Kind.GENERATE, b'{"id": "job-2"}')
    before = ends(topics_created, Kind.GENERATE)
    said = headrace("dlq", "replay", "--code", refusals.code, "--dry-run")
    assert said.status == Exit.OK
    assert "default/job-2" in said.out
    assert "Would send 1 of 1" in said.err
    assert ends(topics_created, Kind.GENERATE) == before


def test_a_replay_sends_key_bytes_and_headers_as_they_were_and_the_number_of_refusals(
    headrace: Call, refusals: Refusals, topics_created: str
) -> None:
    refusals.write(Kind.GENERATE, MALFORMED, key=b"k\xff", attempts=2)
    (position,) = headrace("dlq", "ls", "--code", refusals.code, "-o", "name").out.split()
    before = ends(topics_created, Kind.GENERATE)
    said = headrace("dlq", "replay", position)
    assert said.status == Exit.OK
    assert "Sent 1 of 1" in said.err
    assert arrived(topics_created, Kind.GENERATE, before) == [
        (b"k\xff", MALFORMED, [TRACE, ("dlq.attempts", b"2")]),
    ]


def test_a_letter_that_does_not_say_where_it_came_from_is_left_out(headrace: Call, refusals: Refusals) -> None:
    refusals.raw(Kind.GENERATE, b"{}", [("dlq.error.code", refusals.code.encode())])
    refusals.write(Kind.GENERATE, b"{}")
    last = json.loads(headrace("dlq", "ls", "--kind", "generate", "--last", "2", "-o", "json").out)
    assert [item["code"] for item in last] == ["unknown", refusals.code]
    said = headrace("dlq", "replay", last[0]["position"], last[1]["position"], "--dry-run", "-o", "name")
    assert (said.status, said.out.split()) == (Exit.FAILED, [last[1]["position"]])
    assert "Would send 1 of 2" in said.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["show", "generate-0-999999"], Exit.NOT_FOUND, "generate-0-999999"),
        (["replay", "generate-77-0"], Exit.NOT_FOUND, "headrace dlq ls"),
        (["show", "generate/0/17"], Exit.USAGE, "generate-0-17"),
        (["replay", "translate-0-1"], Exit.USAGE, "'translate-0-1'"),
        (["replay"], Exit.USAGE, "--all"),
        (["replay", "generate-0-1", "--all"], Exit.USAGE, "POSITION"),
        (["ls", "--last", "0"], Exit.USAGE, "1<=x<=100000"),
        (["ls", "--kind", "translate"], Exit.USAGE, "finetune"),
        (["ls", "--kafka", "127.0.0.1:1"], Exit.UNREACHABLE, "127.0.0.1:1"),
    ],
)
def test_what_is_wrong_is_told_with_its_value_and_the_next_step(
    arguments: list[str], status: Exit, said: str, headrace: Call, topics_created: str
) -> None:
    assert topics_created
    found = headrace("dlq", *arguments)
    assert (found.status, found.out) == (status, "")
    assert said in found.err
