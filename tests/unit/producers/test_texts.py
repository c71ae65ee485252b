"""Events in words."""

from datetime import UTC, datetime
from typing import TypedDict

import pytest

from producers.cli.texts import line_of, names_of, table_of
from producers.feed import JobEvent
from schemas.events import CountProgress, LogProgress, State, StatusEvent, TextProgress, TrainProgress
from schemas.requests import Metric
from schemas.results import (
    Choice,
    Comparison,
    EvaluateResult,
    FineTuneResult,
    GenerateResult,
    Interval,
    Result,
    ResultEvent,
    Score,
    Terminal,
)
from schemas.topics import Kind

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Fields(TypedDict):
    """What all progress has."""

    job_id: str
    tenant: str
    attempt: int
    sequence: int
    at: datetime


FIELDS = Fields(job_id="j", tenant="t", attempt=1, sequence=0, at=AT)


def ended(result: Result | None, status: Terminal = Terminal.SUCCEEDED) -> ResultEvent:
    return ResultEvent(
        job_id="j", tenant="t", kind=Kind.GENERATE, status=status, attempt=1, finished_at=AT, result=result
    )


def status(reason: str | None = None) -> StatusEvent:
    return StatusEvent(
        job_id="j",
        tenant="t",
        kind=Kind.GENERATE,
        state=State.RUNNING,
        attempt=1,
        at=AT,
        worker_id="worker-1",
        reason=reason,
    )


TUNED = FineTuneResult(
    model="ft:base:dates:0a",
    base="base",
    method="lora",
    artifact_uri="file:///a",
    artifact_sha256="0",
    size_bytes=1,
    steps=1_000,
    examples=3,
    train_loss=0.5,
    train_s=2.0,
)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (status(), "running on worker-1"),
        (status("out of luck"), "running on worker-1: out of luck"),
        (
            TrainProgress(
                **FIELDS, step=1, steps=2_000, loss=1.25, learning_rate=5e-4, tokens_per_s=1_234.5, remaining_s=61.2
            ),
            "step 1/2,000  loss 1.2500  rate 0.0005  1,234 tokens/s  61 s left",
        ),
        (CountProgress(**FIELDS, done=5, total=10, unit="examples"), "5/10 examples"),
        (TextProgress(**FIELDS, prompt=0, index=1, text="2026"), "[0.1] 2026"),
        (LogProgress(**FIELDS, level="warning", message="hot"), "warning: hot"),
        (ended(None, Terminal.CANCELLED), "cancelled"),
    ],
)
def test_an_event_is_one_line(event: JobEvent, words: str) -> None:
    clock, _, rest = line_of(event).partition(" ")

    assert clock.count(":") == 2
    assert rest == words


def test_answers_are_rows() -> None:
    result = GenerateResult(choices=(Choice(0, 1, "2026-05-01", 10, "stop"),))

    assert table_of(ended(result)).rows == [("0", "1", "10", "stop", "2026-05-01")]


def test_a_tuned_model_is_named_for_the_next_command() -> None:
    assert ("model", "ft:base:dates:0a") in table_of(ended(TUNED)).rows
    assert names_of(ended(TUNED)) == ["ft:base:dates:0a"]


def test_a_comparison_shows_both_models_and_the_interval_of_the_difference() -> None:
    difference = Interval(0.5, 0.4, 0.6)
    comparison = Comparison(
        baseline=Interval(0.25, 0.2, 0.3), difference=difference, wins=3, losses=1, ties=0, significant=True
    )
    score = Score(metric=Metric.EXACT_MATCH, model=Interval(0.75, 0.7, 0.8), comparison=comparison)
    table = table_of(ended(EvaluateResult(model="b", examples=4, scores=(score,), outputs_uri="file:o", baseline="a")))

    assert table.columns[1:3] == ("b", "a")
    assert table.rows == [("exact_match", "0.75 [0.7, 0.8]", "0.25 [0.2, 0.3]", "0.5 [0.4, 0.6]", "yes")]


def test_a_failed_job_shows_how_it_ended() -> None:
    assert table_of(ended(None, Terminal.FAILED)).rows == [("j", "failed")]
    assert names_of(ended(None, Terminal.FAILED)) == ["j"]
