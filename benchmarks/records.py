"""Topics of a benchmark's own, filled with requests before the clock starts."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final
from uuid import uuid4

from confluent_kafka.admin import AdminClient, NewTopic

from runtime.kafka import Publisher
from schemas.codec import encode
from schemas.requests import GenerateRequest

#: As the request topics have.
PARTITIONS: Final = 3
#: What workers hold: loading is what ``locality.zipf`` is about.
MODELS: Final = tuple(f"model-{number}" for number in range(50))
PROMPT: Final = "Summarise the minutes of the meeting in three sentences, and name who has to do what by when. " * 4
WAIT_S: Final = 30.0


@contextmanager
def topics(kafka: str, *names: str) -> Iterator[list[str]]:
    """Topics with these names and a suffix of this run's; they are deleted afterwards."""
    admin = AdminClient({"bootstrap.servers": kafka})
    suffix = uuid4().hex[:8]
    made = [f"bench.{name}.{suffix}" for name in names]
    for made_by_now in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in made]).values():
        made_by_now.result(WAIT_S)
    try:
        yield made
    finally:
        for deleted in admin.delete_topics(made).values():
            deleted.result(WAIT_S)


def fill(kafka: str, topic: str, records: int) -> None:
    """Write requests of about 500 bytes, the same at each call but for their ids."""
    run = uuid4().hex[:8]
    with closing(Publisher(kafka, "benchmark")) as publisher:
        for number in range(records):
            request = GenerateRequest(
                id=f"{run}-{number}", model=MODELS[number % len(MODELS)], prompt=PROMPT, max_tokens=64
            )
            publisher.publish_raw(topic, request.id.encode() if request.id else None, encode(request), [])
