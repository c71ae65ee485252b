"""What a lost process costs: time, but no request."""

import shutil

from producers import Headrace
from schemas.events import State, StatusEvent
from schemas.requests import Dataset, FineTuneRequest, GenerateRequest, Hyperparameters, Record
from schemas.results import FineTuneResult, GenerateResult
from tests.acceptance.processes import Platform

WAIT_S = 120.0
TUNE = FineTuneRequest(
    model="example-base",
    dataset=Dataset(records=tuple(Record(f"{number}->", f"{number:03}") for number in range(32))),
    hyperparameters=Hyperparameters(max_steps=3, batch_size=8),
)


def ask(model: str) -> GenerateRequest:
    return GenerateRequest(model=model, prompt="7->", max_tokens=4, temperature=0)


def test_a_second_worker_gets_a_fresh_adapter_from_redis(platform: Platform, client: Headrace) -> None:
    tuned = client.result(client.submit(TUNE), WAIT_S)
    assert isinstance(tuned.result, FineTuneResult), tuned.error
    # Nothing of it is left on any disk: the store and every worker's cache are emptied.
    shutil.rmtree(platform.store)
    for worker in platform.workers:
        shutil.rmtree(platform.cache_of(worker), ignore_errors=True)
    fresh = platform.start_worker()
    fresh.until_ready()
    for worker in list(platform.workers):
        if worker is not fresh and worker.is_running:
            assert worker.stop() == 0
    answer = client.result(client.submit(ask(tuned.result.model)), WAIT_S)
    assert isinstance(answer.result, GenerateResult), answer.error
    platform.start_worker().until_ready()


def test_a_job_of_a_killed_worker_runs_on_another(platform: Platform, client: Headrace) -> None:
    long = FineTuneRequest(
        model="example-base",
        dataset=TUNE.dataset,
        hyperparameters=Hyperparameters(max_steps=400, batch_size=8),
    )
    job_id = client.submit(long)
    owner = next(
        event.worker_id
        for event in client.watch(job_id)
        if isinstance(event, StatusEvent) and event.state is State.RUNNING and event.worker_id
    )
    victim = next(worker for worker in platform.workers if worker.is_running and owner in worker.log.read_text())
    victim.kill()
    platform.start_worker().until_ready()
    event = client.result(job_id, WAIT_S)
    assert event.status == "succeeded", event.error
    assert event.attempt == 2


def test_requests_survive_a_killed_dispatcher(platform: Platform, client: Headrace) -> None:
    # Without ids of our own: the client follows the results of its new jobs, and searches the topic for each other.
    jobs = [GenerateRequest(model="example-base", prompt="a", max_tokens=1)] * 100
    ids = list(client.submit_many(jobs))
    dispatcher = next(process for process in platform.dispatchers if process.is_running)
    dispatcher.kill()
    ids += client.submit_many(jobs)
    platform.start_dispatcher().until_ready()
    events = [client.result(job_id, WAIT_S) for job_id in ids]
    assert {event.status for event in events} == {"succeeded"}
    assert len({event.job_id for event in events}) == 200
