"""What a person sees of the demo while it runs."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from examples.demo.screen import Screen
from schemas.events import CountProgress, State, StatusEvent, TrainProgress
from schemas.topics import Kind

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def step(number: int) -> TrainProgress:
    return TrainProgress(
        job_id="j",
        tenant="t",
        attempt=1,
        sequence=number,
        at=AT,
        step=number,
        steps=300,
        loss=1.25,
        learning_rate=0.005,
        tokens_per_s=1_000.0,
        remaining_s=42.0,
    )


def screen(*, terminal: bool) -> tuple[Screen, io.StringIO]:
    written = io.StringIO()
    return Screen(Console(file=written, force_terminal=terminal, width=100, highlight=False)), written


def test_a_terminal_shows_a_bar_with_step_loss_rate_and_time_left() -> None:
    shown, written = screen(terminal=True)
    with shown.progress() as show:
        show(StatusEvent(job_id="j", tenant="t", kind=Kind.FINETUNE, state=State.QUEUED, attempt=1, at=AT))
        show(step(7))
        show(CountProgress(job_id="j", tenant="t", attempt=1, sequence=8, at=AT, done=5, total=10, unit="answers"))
        show(step(8))

    assert "8/300" in written.getvalue()
    assert "steps  loss 1.250  rate 0.005  42 s left" in written.getvalue()


def test_a_log_shows_each_state_but_progress_only_now_and_then() -> None:
    shown, written = screen(terminal=False)
    with shown.progress() as show:
        for state in (State.QUEUED, State.RUNNING):
            show(StatusEvent(job_id="j", tenant="t", kind=Kind.FINETUNE, state=state, attempt=1, at=AT))
        for number in range(100):
            show(step(number))

    lines = written.getvalue().splitlines()
    assert [line.partition(" ")[2] for line in lines[:2]] == ["queued", "running"]
    assert lines[2].endswith("step 0/300  loss 1.2500  rate 0.005  1,000 tokens/s  42 s left")
    assert len(lines) < 50


@pytest.mark.parametrize("terminal", [True, False])
def test_answers_with_markup_and_control_characters_are_shown_as_they_are(terminal: bool) -> None:
    shown, written = screen(terminal=terminal)
    shown.answers([("de", "30. August 2029\n", "[red]\x1b[2J", "2029-08-30")])

    assert "[red]\\x1b[2J" in written.getvalue()
    assert "\x1b[2J" not in written.getvalue()
