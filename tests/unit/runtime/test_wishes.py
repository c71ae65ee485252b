"""What a wish comes to in each state that it may find."""

from datetime import UTC, datetime
from typing import Literal

import pytest

from runtime.database.wishes import Standing, cancelled, decide, noted, paused
from schemas.codec import encode
from schemas.events import FINAL_STATES, RETRIED_STATES, ControlEvent, State
from schemas.topics import Kind

Action = Literal["cancel", "retry", "pause", "resume"]
ACTIONS: tuple[Action, ...] = ("cancel", "pause", "resume", "retry")


def wish(action: Action, reason: str | None = None) -> ControlEvent:
    return ControlEvent(action=action, job_id="a", reason=reason)


def job(state: State, control: Action | None = None, *, is_delayed: bool = False) -> Standing:
    return Standing(
        tenant="default",
        id="a",
        kind=Kind.GENERATE,
        state=state,
        attempt=1,
        epoch=1,
        worker_id="worker-1",
        traceparent="",
        request_sha256="",
        queued_at=datetime.now(UTC),
        deadline=None,
        is_delayed=is_delayed,
        control=wish(control) if control else None,
    )


@pytest.mark.parametrize(
    ("state", "control", "fates"),
    [
        # cancel, pause, resume, retry
        (State.QUEUED, None, "cancelled moved unfit unfit"),
        (State.QUEUED, "pause", "cancelled moved moved unfit"),
        (State.QUEUED, "cancel", "cancelled unfit unfit unfit"),
        (State.PAUSED, None, "cancelled unfit moved unfit"),
        (State.SCHEDULED, None, "told told unfit unfit"),
        (State.RUNNING, None, "told told unfit unfit"),
        (State.RUNNING, "pause", "told repeated withdrawn unfit"),
        (State.RUNNING, "resume", "told told unfit unfit"),
        (State.RUNNING, "cancel", "repeated unfit unfit unfit"),
        (State.SUCCEEDED, None, "unfit unfit unfit unfit"),
        (State.REJECTED, None, "unfit unfit unfit unfit"),
        (State.FAILED, None, "unfit unfit unfit resubmitted"),
        (State.CANCELLED, "cancel", "unfit unfit unfit resubmitted"),
        (State.EXPIRED, None, "unfit unfit unfit resubmitted"),
    ],
)
def test_a_wish_comes_to_what_the_jobs_state_allows(state: State, control: Action | None, fates: str) -> None:
    assert [decide(job(state, control), wish(action)).fate for action in ACTIONS] == fates.split()


def test_a_wish_about_a_job_that_is_not_there_waits_for_it() -> None:
    found = [decide(None, wish(action)).fate for action in ACTIONS]
    assert found == ["remembered", "remembered", "remembered", "unfit"]


def test_a_retry_ends_the_backoff_of_a_queued_job() -> None:
    assert decide(job(State.QUEUED, is_delayed=True), wish("retry")).fate == "moved"


def test_only_what_has_ended_is_retried() -> None:
    assert RETRIED_STATES < FINAL_STATES


@pytest.mark.parametrize(
    ("reason", "words"), [(None, "Its client cancelled the job."), ("Slow.", "Its client cancelled the job: Slow.")]
)
def test_the_reason_is_told(reason: str | None, words: str) -> None:
    assert str(cancelled(wish("cancel", reason))) == words
    assert str(paused(wish("pause", reason))) == words.replace("cancelled", "paused")


def test_a_stored_wish_of_a_later_release_is_left_to_it() -> None:
    stored = encode(wish("pause")).decode()
    assert noted(stored) == wish("pause")
    assert noted(None) is None
    assert noted(stored.replace("}", ', "field_of_a_later_version": 1}')) is None
