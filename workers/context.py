"""What a handler sees of its job: the tools of the worker, a meter, and checkpoints.

A handler runs on the event loop and hands long work to the trainer thread or the engine's, so every
method may be called from any thread, and none of them waits but ``run``.
"""

import asyncio
import copy
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple, assert_never

from schemas.errors import JobStopped, JobSuspended, LeaseLost
from schemas.events import ProgressEvent, State
from schemas.requests import Job
from schemas.results import Result
from workers.progress import Progress, progress_event

if TYPE_CHECKING:  # torch takes seconds to import, and a context needs none of it
    from runtime.artifacts import ArtifactStore
    from workers.checkpoints import Checkpoints
    from workers.datasets import Datasets
    from workers.engine import Engine
    from workers.models import Models

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")
#: Why a job shall not go on.
Stop = JobStopped | JobSuspended | LeaseLost


@dataclass
class Meter:
    """What one attempt has used so far; it becomes the result's usage, timings and lineage.

    ``device_s`` is the time that the attempt held the device, ``load_s`` the wait for its models.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    train_tokens: int = 0
    device_s: float = 0.0
    load_s: float = 0.0
    dataset_sha256: str | None = None
    base: str | None = None
    adapter: str | None = None


class Announcer(Protocol):
    """Tells whoever watches jobs; losing an announcement never harms the job."""

    def progress(self, job: Job, event: ProgressEvent) -> None:
        """The job got further."""

    def status(self, job: Job, state: State) -> None:
        """The job is in another state."""


@dataclass(frozen=True)
class Tools:
    """What the jobs of a worker share. ``trainer`` has one thread: training jobs take turns."""

    models: "Models"
    engine: "Engine"
    datasets: "Datasets"
    artifacts: "ArtifactStore"
    trainer: Executor


class JobContext:
    """One attempt at a job.

    ``first`` is the number of its first progress event: an attempt that was given back before goes on numbering.
    """

    def __init__(
        self, job: Job, tools: Tools, announcer: Announcer, checkpoints: "Checkpoints", first: int = 0
    ) -> None:
        self.job = job
        self.checkpoints = checkpoints
        self.models = tools.models
        self.engine = tools.engine
        self.datasets = tools.datasets
        self.artifacts = tools.artifacts
        self.trainer = tools.trainer
        self.meter = Meter()
        #: What the handler has by the time when it is stopped, where the client wants to keep that.
        self.partial: Result | None = None
        self._announcer = announcer
        self._sequence = itertools.count(first)
        self._state = State.SCHEDULED
        self._stop: Stop | None = None
        self._stopping = threading.Lock()
        #: What waits for the trainer thread, or is there.
        self._turns: set[Future[Any]] = set()
        # Held while an event is handed to Kafka's buffer, so that events lie there in their order.
        self._lock = threading.Lock()

    def check(self) -> None:
        """Return if the job shall go on; cheap enough for every decode step and train step.

        Raises:
            JobCancelled: a cancel request came.
            JobExpired: the request's deadline has passed (see ``deadline``).
            JobReturned, JobPaused: the job is to go on later. What can be continued is checkpointed first.
            LeaseLost: another attempt owns the job.
        """
        if self._stop:
            # A new one for each thread: a raised exception collects its thread's traceback.
            raise copy.copy(self._stop)

    def stop(self, reason: Stop) -> None:
        """Have the next ``check`` raise ``reason``, unless another one came first that weighs as much or more.

        An end outweighs a suspension, for it needs nobody to go on; a lost lease outweighs both.
        """
        with self._stopping:
            if self._stop is None or _weight(reason) > _weight(self._stop):
                self._stop = reason
            turns = tuple(self._turns)
        for turn in turns:
            turn.cancel()  # one that has begun goes on to its next check

    def report(self, progress: Progress) -> None:
        """Tell watchers how far the job is; the caller chooses how often."""
        with self._lock:
            event = progress_event(progress, self.job, next(self._sequence))
            self._announcer.progress(self.job, event)

    def loading(self) -> None:
        """Tell watchers that the job has begun and waits for its model."""
        self._enter(State.LOADING)

    def running(self) -> None:
        """Tell watchers that the model is there and the work begins; repeats change nothing."""
        self._enter(State.RUNNING)

    async def run(self, function: Callable[[*Arguments], Answer], /, *arguments: *Arguments) -> Answer:
        """Call ``function`` in the trainer thread, after the jobs that came there first.

        Raises:
            JobStopped, JobSuspended, LeaseLost: as ``check``, before the function begins; a stop that comes
                while others have the thread is not held up by them.
        """

        def checked() -> Answer:
            self.check()
            return function(*arguments)

        self.check()
        turn = self.trainer.submit(checked)
        with self._stopping:
            self._turns.add(turn)
        try:
            return await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # the turn was cancelled by ``stop``, not the caller
                self.check()
            raise
        finally:
            with self._stopping:
                self._turns.discard(turn)

    def _enter(self, state: State) -> None:
        with self._lock:
            if state is not self._state:
                self._state = state
                self._announcer.status(self.job, state)


def _weight(reason: Stop) -> int:
    match reason:
        case JobSuspended():
            return 0
        case JobStopped():
            return 1
        case LeaseLost():
            return 2
        case unknown:
            assert_never(unknown)
