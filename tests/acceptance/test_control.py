"""Jobs that run are cancelled, paused, resumed and retried, with every process and server real."""

from datetime import UTC, datetime, timedelta

import pytest

from producers import Headrace
from producers.feed import JobEvent
from schemas.events import LogProgress, State, StatusEvent, TextProgress, TrainProgress
from schemas.requests import Dataset, FineTuneRequest, GenerateRequest, Hyperparameters, Record
from schemas.results import FineTuneResult, GenerateResult, ResultEvent, Terminal

WAIT_S = 120.0
MODEL = "tiny-gpt2"
#: A minute's work at least: thousands of answers of a random model, which seldom ends one by itself.
LONG = GenerateRequest(model=MODEL, prompts=("a", "b") * 20, n=128, max_tokens=100, stream=True, seed=1)
RECORDS = tuple(Record(prompt=f"{number} -> ", completion=f"{number * number}") for number in range(64))


def tuning(steps: int) -> FineTuneRequest:
    return FineTuneRequest(
        model=MODEL,
        dataset=Dataset(records=RECORDS),
        hyperparameters=Hyperparameters(max_steps=steps, batch_size=8),
        suffix="cut",
    )


def until_cancelled(client: Headrace, job_id: str, begun: type, *, keep_partial: bool) -> tuple[ResultEvent, float]:
    """Cancel the job at its first event of this kind; its end, and the seconds from the wish to it."""
    asked_at: datetime | None = None
    for event in client.watch(job_id, WAIT_S):
        if isinstance(event, begun) and asked_at is None:
            asked_at = datetime.now(UTC)
            client.cancel(job_id, "seen enough", keep_partial=keep_partial)
        if isinstance(event, ResultEvent):
            assert asked_at is not None
            return event, (event.finished_at - asked_at).total_seconds()
    raise AssertionError("it goes on")


@pytest.mark.parametrize("keep_partial", [True, False])
def test_a_running_generation_stops_and_keeps_its_text_where_that_is_asked_for(
    client: Headrace, keep_partial: bool
) -> None:
    job_id = client.submit(LONG)
    end, took_s = until_cancelled(client, job_id, TextProgress, keep_partial=keep_partial)
    assert end.status is Terminal.CANCELLED
    assert end.error is not None
    assert end.error.message == "Its client cancelled the job: seen enough."
    assert took_s < WAIT_S / 4
    assert client.status(job_id).state is State.CANCELLED
    if not keep_partial:
        assert end.result is None
        return
    assert isinstance(end.result, GenerateResult)
    assert len(end.result.choices) == 40 * 128
    begun = [choice for choice in end.result.choices if choice.tokens]
    assert begun
    assert len(begun) < len(end.result.choices)
    assert end.usage.completion_tokens == sum(choice.tokens for choice in begun)
    # Its rows have left: the next one is not behind them.
    short = client.submit(GenerateRequest(model=MODEL, prompt="a", max_tokens=2))
    assert client.result(short, WAIT_S / 2).status is Terminal.SUCCEEDED


def test_a_running_fine_tune_stops_and_its_weights_so_far_can_be_asked(client: Headrace) -> None:
    job_id = client.submit(tuning(1_000_000))
    end, took_s = until_cancelled(client, job_id, TrainProgress, keep_partial=True)
    assert end.status is Terminal.CANCELLED
    assert took_s < WAIT_S / 4
    assert isinstance(end.result, FineTuneResult)
    assert 0 < end.result.steps < 1_000_000
    answer = client.result(client.submit(GenerateRequest(model=end.result.model, prompt="7 -> ", max_tokens=2)), WAIT_S)
    assert answer.status is Terminal.SUCCEEDED


def test_a_paused_fine_tune_goes_on_after_its_last_step(client: Headrace) -> None:
    job_id = client.submit(tuning(2_000))
    seen: list[JobEvent] = []
    for event in client.watch(job_id, WAIT_S):
        if isinstance(event, TrainProgress) and not any(isinstance(past, TrainProgress) for past in seen):
            client.pause(job_id)
        if isinstance(event, StatusEvent) and event.state is State.PAUSED:
            client.resume(job_id)
        seen.append(event)
    end = seen[-1]
    assert isinstance(end, ResultEvent)
    assert end.status is Terminal.SUCCEEDED
    assert end.attempt == 1
    assert isinstance(end.result, FineTuneResult)
    assert end.result.steps == 2_000
    states = [event.state for event in seen if isinstance(event, StatusEvent)]
    for state in (State.PAUSING, State.PAUSED):
        assert states.count(state) == 1
    assert states.count(State.SCHEDULED) == states.count(State.RUNNING) == 2
    lines = [event.message for event in seen if isinstance(event, LogProgress)]
    assert any("Goes on after step" in line for line in lines), lines
    steps = [event.step for event in seen if isinstance(event, TrainProgress)]
    assert steps == sorted(set(steps))


def test_a_deadline_ends_a_job_that_runs(client: Headrace) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=8)
    request = tuning(1_000_000)
    late = FineTuneRequest(
        model=MODEL, dataset=request.dataset, hyperparameters=request.hyperparameters, deadline=deadline
    )
    end = client.result(client.submit(late), WAIT_S)
    assert end.status is Terminal.EXPIRED
    assert end.finished_at >= deadline
    assert end.error is not None
    assert deadline.strftime("%Y-%m-%dT%H:%M") in end.error.message


def test_a_failed_job_is_retried_as_a_job_of_its_own(client: Headrace) -> None:
    failed = client.submit(GenerateRequest(model="no-such-model", prompt="a", max_tokens=1))
    assert client.result(failed, WAIT_S).status is Terminal.FAILED
    retried = client.retry(failed)
    again = client.result(retried, WAIT_S)
    assert retried != failed
    assert (again.job_id, again.status, again.attempt) == (retried, Terminal.FAILED, 1)
