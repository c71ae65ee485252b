"""One answer in the making, and what it comes to."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from schemas.errors import JobCancelled
from workers.engine.sampling import Sampling
from workers.engine.transcript import Transcript
from workers.models import LoadedModel


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. Neither text nor tokens have the end token; the text ends before the stop string.

    ``device_s`` is this row's share of the time that its batches took.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: Literal["stop", "length"]
    device_s: float


class CutShort(JobCancelled):
    """The job was cancelled, and its client keeps what there is: ``completion`` is the answer by then."""

    def __init__(self, reason: JobCancelled, completion: Completion) -> None:
        self.completion = completion
        super().__init__(str(reason), keep_partial=True)


@dataclass(slots=True, eq=False)
class Row:
    """An answer in the making: a row of a lane's batch, or waiting to be one."""

    #: Orders rows by when they were submitted.
    number: int
    model: LoadedModel
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    #: Raises once the job has to stop; called at every step. It tells the job's rows from others.
    check: Callable[[], None]
    #: Takes the answer's text piece by piece, in the engine's thread.
    on_text: Callable[[str], None] | None
    future: asyncio.Future[Completion]
    #: Its job's priority: 0 has places before 1.
    urgency: int = 0
    #: When it was submitted, by the clock that ages it.
    since_s: float = field(default_factory=time.monotonic)
    dice: Random = field(init=False)
    transcript: Transcript | None = field(init=False)
    token_ids: list[int] = field(init=False, default_factory=list)
    #: Its shares of steps, minus the lane's clock when it joined; as it leaves the clock is added.
    device_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.dice = self.sampling.dice()
        watched = self.on_text is not None or self.sampling.stop
        self.transcript = Transcript(self.model.decode, self.sampling.stop) if watched else None

    @property
    def context(self) -> tuple[int, ...]:
        """What the next token follows."""
        return (*self.prompt_ids, *self.token_ids) if self.token_ids else self.prompt_ids

    @property
    def length(self) -> int:
        """Tokens of the context."""
        return len(self.prompt_ids) + len(self.token_ids)

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are kept: all but the newest."""
        return self.length - 1

    @property
    def longest(self) -> int:
        """Tokens that it may come to."""
        return len(self.prompt_ids) + self.sampling.max_tokens

    def push(self, token: int) -> Literal["stop", "length"] | None:
        """Take the next token; returns why the answer is complete, once it is."""
        if token in self.model.eos_ids:
            return "stop"
        self.token_ids.append(token)
        if self.transcript is not None:
            self._emit(self.transcript.push(token))
            if self.transcript.stopped:
                return "stop"
        return "length" if len(self.token_ids) >= self.sampling.max_tokens else None

    def rewind(self) -> None:
        """Be ready to draw the next token, though the dice may have been thrown for it: it was not taken."""
        self.dice = self.sampling.dice()
        if self.sampling.temperature > 0:  # one number a token
            for _ in self.token_ids:
                self.dice.random()

    def complete(self, reason: Literal["stop", "length"]) -> Completion:
        """The answer as it stands, which is its end."""
        if self.transcript is None:
            text = self.model.decode(self.token_ids)
        else:
            self._emit(self.transcript.finish())
            text = self.transcript.text
            reason = "stop" if self.transcript.stopped else reason
        return Completion(text, tuple(self.token_ids), len(self.prompt_ids), reason, self.device_s)

    def leave(self, reason: BaseException) -> BaseException:
        """What is raised in whoever waits for this row, which stops by ``reason`` before its end."""
        if isinstance(reason, JobCancelled) and reason.keep_partial:
            return CutShort(reason, self.complete("length"))
        return reason

    def _emit(self, piece: str) -> None:
        if piece and self.on_text is not None:
            self.on_text(piece)


#: A row that left, with its answer or the reason why there is none.
Ended = tuple[Row, Completion | BaseException]
