"""A job and its context without servers, models and files."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import torch

from runtime.artifacts import ArtifactStore
from runtime.artifacts.remote import RemoteStore
from runtime.database.queries import TunedModel
from runtime.monitoring import Metrics
from schemas.events import Lease, ProgressEvent, State, WorkEvent
from schemas.requests import GenerateRequest, Job, Request
from tests.unit.workers.saving import NoCheckpoints
from workers.context import JobContext, Tools
from workers.datasets import Datasets
from workers.engine import Engine
from workers.models import Models, Sources

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
QUEUED_AT = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
SCHEDULED_AT = datetime(2026, 11, 23, 12, 0, 2, tzinfo=UTC)


class FakeAnnouncer:
    """Keeps what is announced."""

    def __init__(self) -> None:
        self.events: list[ProgressEvent] = []
        self.states: list[State] = []

    def progress(self, _: Job, event: ProgressEvent) -> None:
        """Keep the event."""
        self.events.append(event)

    def status(self, _: Job, state: State) -> None:
        """Keep the state."""
        self.states.append(state)


class NoTunedModels:
    """A database without tuned models."""

    def find(self, _: str, __: str) -> TunedModel | None:
        """There is none."""
        return None


def job(request: Request | None = None, *, deadline: datetime | None = None) -> Job:
    """An admitted request."""
    return Job(
        id="job-1",
        tenant="default",
        request=request or GenerateRequest(model="none", prompt="hello", deadline=deadline),
        submitted_at=QUEUED_AT,
        queued_at=QUEUED_AT,
        traceparent=TRACE,
        request_sha256="0" * 64,
    )


def work(of: Job) -> WorkEvent:
    """The job, leased to this worker."""
    return WorkEvent(of, Lease(of.tenant, of.id, 1, "worker-1"), SCHEDULED_AT)


def context(of: Job, announcer: FakeAnnouncer | None = None) -> JobContext:
    """The job's context, with tools that know no model and no dataset."""
    artifacts = ArtifactStore(RemoteStore("memory://none"), Path("none"), None, Metrics("test"))
    models = Models(Sources((), NoTunedModels(), artifacts), torch.device("cpu"), 0)
    tools = Tools(models, Engine(), Datasets(()), artifacts, ThreadPoolExecutor(1))
    return JobContext(of, tools, announcer or FakeAnnouncer(), NoCheckpoints())
