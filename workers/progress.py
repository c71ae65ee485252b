"""How far a job is, as its handler says it, and as its watchers are told."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, assert_never

from schemas.events import CountProgress, LogProgress, ProgressEvent, TextProgress, TrainProgress
from schemas.requests import Job


@dataclass(frozen=True)
class TrainStep:
    """One optimizer step; ``loss`` in nats per trained token, ``remaining_s`` an estimate."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    remaining_s: float


@dataclass(frozen=True)
class Count:
    """So many of so many done, in ``unit`` (examples, tokens, bytes)."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class TextChunk:
    """The next piece of answer ``index`` to prompt number ``prompt``."""

    prompt: int
    index: int
    text: str


@dataclass(frozen=True)
class LogLine:
    """A line for whoever watches the job."""

    level: Literal["info", "warning", "error"]
    message: str


Progress = TrainStep | Count | TextChunk | LogLine


def progress_event(progress: Progress, job: Job, sequence: int) -> ProgressEvent:
    """The event that tells it; ``sequence`` counts the events of the attempt."""
    at = datetime.now(UTC)
    match progress:
        case TrainStep():
            return TrainProgress(
                job_id=job.id,
                tenant=job.tenant,
                attempt=job.attempt,
                sequence=sequence,
                at=at,
                step=progress.step,
                steps=progress.steps,
                loss=progress.loss,
                learning_rate=progress.learning_rate,
                tokens_per_s=progress.tokens_per_s,
                remaining_s=progress.remaining_s,
            )
        case Count(done, total, unit):
            return CountProgress(
                job_id=job.id,
                tenant=job.tenant,
                attempt=job.attempt,
                sequence=sequence,
                at=at,
                done=done,
                total=total,
                unit=unit,
            )
        case TextChunk(prompt, index, text):
            return TextProgress(
                job_id=job.id,
                tenant=job.tenant,
                attempt=job.attempt,
                sequence=sequence,
                at=at,
                prompt=prompt,
                index=index,
                text=text,
            )
        case LogLine(level, message):
            return LogProgress(
                job_id=job.id,
                tenant=job.tenant,
                attempt=job.attempt,
                sequence=sequence,
                at=at,
                level=level,
                message=message,
            )
        case unknown:
            assert_never(unknown)
