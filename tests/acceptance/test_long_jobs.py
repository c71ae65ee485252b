"""Long jobs change their worker, by force and by a rolling restart, and come to what they would have come to."""

import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import text

from producers import Headrace
from runtime.database import Database
from runtime.database.checkpoints import find
from schemas import topics
from schemas.codec import decode
from schemas.events import LogProgress, StatusEvent, TrainProgress
from schemas.requests import Dataset, FineTuneRequest, GenerateRequest, Hyperparameters, Record
from schemas.results import FineTuneResult, ResultEvent, Terminal
from tests.acceptance.processes import HeadraceProcess, Platform
from tests.acceptance.topics import tails

WAIT_S = 240.0
TUNE = FineTuneRequest(
    model="example-base",
    dataset=Dataset(records=tuple(Record(f"{number}->", f"{number:03}") for number in range(64))),
    hyperparameters=Hyperparameters(max_steps=500, batch_size=8),
)


@contextmanager
def database(platform: Platform) -> Iterator[Database]:
    with closing(Database(platform.servers["HEADRACE_DATABASE"])) as opened:
        yield opened


def has_checkpoint(opened: Database, job_id: str) -> bool:
    with opened.begin() as connection:
        return find(connection, "default", job_id) is not None


def owner(platform: Platform, client: Headrace, job_id: str) -> HeadraceProcess:
    """The worker that runs the job and has left a checkpoint of it."""
    found = None
    with database(platform) as opened:
        # The events of workers that have gone come first.
        for event in client.watch(job_id, WAIT_S):
            if isinstance(event, StatusEvent) and event.worker_id:
                found = next(worker for worker in platform.workers if event.worker_id in worker.log.read_text())
            if isinstance(event, TrainProgress) and found and found.is_running and has_checkpoint(opened, job_id):
                return found
    raise AssertionError(f"{job_id} ended before it had a checkpoint")


def until_swept(platform: Platform, job_id: str) -> None:
    """Wait until an ended job's checkpoint is gone."""
    deadline_s = time.monotonic() + WAIT_S
    with database(platform) as opened:
        while has_checkpoint(opened, job_id):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)


def steps_by_attempt(client: Headrace, job_id: str) -> dict[int, list[int]]:
    """The steps that each attempt has reported."""
    steps: dict[int, list[int]] = {}
    for event in client.watch(job_id):
        if isinstance(event, TrainProgress):
            steps.setdefault(event.attempt, []).append(event.step)
    return steps


def tuned(event: ResultEvent) -> FineTuneResult:
    assert isinstance(event.result, FineTuneResult), event.error
    return event.result


def test_a_fine_tune_whose_worker_is_killed_goes_on_from_its_checkpoint_to_the_same_model(
    platform: Platform, client: Headrace
) -> None:
    straight = client.result(client.submit(TUNE), WAIT_S)
    job_id = client.submit(TUNE)
    owner(platform, client, job_id).kill()
    platform.start_worker().until_ready()
    event = client.result(job_id, WAIT_S)

    assert event.attempt == 2
    assert (tuned(event).steps, tuned(event).train_loss) == (500, tuned(straight).train_loss)
    assert tuned(event).artifact_sha256 == tuned(straight).artifact_sha256
    assert event.usage.train_tokens == straight.usage.train_tokens
    lines = [line.message for line in client.watch(job_id) if isinstance(line, LogProgress)]
    assert any("Goes on after step" in line for line in lines)
    steps = steps_by_attempt(client, job_id)
    assert steps[2][0] > 1
    assert steps[2][-1] == 500
    until_swept(platform, job_id)


def test_a_rolling_restart_under_load_loses_nothing_repeats_nothing_and_charges_no_attempt(
    platform: Platform, client: Headrace
) -> None:
    tag = secrets.token_hex(4)
    for worker in (platform.start_worker(), platform.start_worker()):
        worker.until_ready()
    ids = [f"{tag}-{number}" for number in range(300)]
    asked = [GenerateRequest(id=job_id, model="example-base", prompt="7->", max_tokens=8) for job_id in ids]
    with tails(platform.servers["HEADRACE_KAFKA"], topics.RESULTS.name) as opened:
        tune = client.submit(TUNE)
        for wave in range(2):
            client.submit_many(asked[wave * 100 : (wave + 1) * 100])
            assert owner(platform, client, tune).stop() == 0
        client.submit_many(asked[200:])
        keys = {job_id.encode() for job_id in (tune, *ids)}
        records = opened[topics.RESULTS.name].until(lambda seen: keys <= {record.key for record in seen}, WAIT_S)

    events: list[ResultEvent] = [decode(ResultEvent, record.value or b"") for record in records if record.key in keys]
    assert len(events) == len(keys)
    assert {event.status for event in events} == {Terminal.SUCCEEDED}
    assert {event.attempt for event in events} == {1}
    (event,) = (event for event in events if event.job_id == tune)
    assert tuned(event).steps == 500
    with database(platform) as connected, connected.begin() as connection:
        rows = connection.execute(
            text("SELECT count(*) FROM jobs WHERE id = ANY(:ids) AND lost_attempts = 0 AND state = 'succeeded'"),
            {"ids": [tune, *ids]},
        )
        assert rows.scalar() == len(keys)
        # Given back twice, which is no attempt: three leases.
        assert connection.execute(text("SELECT epoch FROM jobs WHERE id = :id"), {"id": tune}).scalar() == 3
