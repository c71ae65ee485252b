"""Watching a job against a real Kafka."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from producers import ClientClosed, Headrace
from producers.feed import JobEvent
from schemas import topics
from schemas.errors import ResultTimeout
from schemas.events import CountProgress, State, StatusEvent
from schemas.requests import GenerateRequest
from schemas.results import ResultEvent
from tests.integration.producers.stub import StubPlatform

WAIT_S = 20.0
PROMPT = GenerateRequest(model="m", prompt="p")


def told(event: JobEvent) -> str:
    match event:
        case StatusEvent():
            return event.state.value
        case CountProgress():
            return str(event.done)
        case ResultEvent():
            return f"result {event.status}"
        case _:
            return type(event).__name__


def test_the_past_is_told_by_time_and_the_result_last(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    times = [datetime.now(UTC) + timedelta(seconds=number) for number in range(4)]
    platform.succeed(job_id)
    platform.progress(job_id, 1, at=times[2])
    platform.progress(job_id, 2, at=times[3])
    platform.state(job_id, State.QUEUED, at=times[0])
    platform.state(job_id, State.RUNNING, at=times[1])

    events = [told(event) for event in client.watch(job_id, WAIT_S)]
    assert events == ["queued", "running", "1", "2", "result succeeded"]


def test_the_past_has_an_end_though_others_write_without_a_pause(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    platform.state(job_id, State.QUEUED)
    enough = threading.Event()

    def write() -> None:
        while not enough.is_set():
            platform.garbage(topics.PROGRESS, job_id, [None] * 5_000)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert told(next(client.watch(job_id, WAIT_S))) == "queued"
    finally:
        enough.set()
        writing.join()


def test_what_comes_is_told_as_it_comes(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    events = client.watch(job_id, WAIT_S)

    platform.state(job_id, State.QUEUED)
    assert told(next(events)) == "queued"
    platform.progress(job_id, 1)
    assert told(next(events)) == "1"
    platform.state(job_id, State.RUNNING)
    assert told(next(events)) == "running"
    platform.succeed(job_id)
    assert told(next(events)) == "result succeeded"
    with pytest.raises(StopIteration):
        next(events)


def test_progress_that_was_published_before_the_result_is_told_before_it(
    client: Headrace, platform: StubPlatform
) -> None:
    job_id = client.submit(PROMPT)
    events = client.watch(job_id, WAIT_S)
    platform.state(job_id, State.QUEUED)
    assert told(next(events)) == "queued"
    platform.progress(job_id, *range(100))
    platform.succeed(job_id)

    assert [told(event) for event in events] == [*map(str, range(100)), "result succeeded"]


def test_copies_are_told_once(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    platform.progress(job_id, 1, 2, copies=3)
    platform.succeed(job_id, job_id)

    assert [told(event) for event in client.watch(job_id, WAIT_S)] == ["1", "2", "result succeeded"]


def test_events_of_other_jobs_and_tenants_are_not_told(client: Headrace, platform: StubPlatform) -> None:
    job_id, other = client.submit_many([PROMPT, PROMPT])
    platform.state(other, State.QUEUED)
    platform.state(job_id, State.RUNNING, tenant="other")
    platform.succeed(job_id, tenant="other")
    platform.succeed(job_id)

    assert [told(event) for event in client.watch(job_id, WAIT_S)] == ["result succeeded"]


def test_a_watch_ends_with_its_time(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    platform.state(job_id, State.QUEUED)
    events = client.watch(job_id, 3.0)

    assert told(next(events)) == "queued"
    with pytest.raises(ResultTimeout, match="after 3 s"):
        next(events)


def test_a_watch_can_be_stopped_from_another_thread(client: Headrace, platform: StubPlatform) -> None:
    job_id = client.submit(PROMPT)
    platform.state(job_id, State.QUEUED)
    stopped = threading.Event()
    events = client.watch(job_id, stopped=stopped)

    assert told(next(events)) == "queued"
    stopped.set()
    assert list(events) == []


def test_a_watch_ends_when_the_client_is_closed(topics_created: str, platform: StubPlatform) -> None:
    client = Headrace.connect(topics_created)
    job_id = client.submit(PROMPT)
    platform.state(job_id, State.QUEUED)
    events = client.watch(job_id)
    assert told(next(events)) == "queued"
    client.close()

    with pytest.raises(ClientClosed):
        next(events)
