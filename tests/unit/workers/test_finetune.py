"""The fine-tune handler, from a request to a published model, and every way in which it fails."""

import asyncio
import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeGuard, cast

import msgspec
import pytest
import torch
from msgspec import structs
from safetensors.torch import load_file, save_file

from runtime.database.queries import TunedModel
from schemas.errors import (
    DatasetInvalid,
    DatasetUnreachable,
    JobCancelled,
    JobError,
    JobPaused,
    JobReturned,
    JobSuspended,
    LeaseLost,
    ModelNotFound,
    ServerUnreachable,
    TrainingDiverged,
    Unsupported,
)
from schemas.events import LogProgress, ProgressEvent, State, TrainProgress
from schemas.limits import MODEL_CHARS
from schemas.requests import Dataset, FineTuneRequest, Hyperparameters, Job, Method, Record
from schemas.results import FineTuneResult
from tests.tiny_models import save_tiny_model
from tests.unit.workers.saving import FailingArtifacts, KeptCheckpoints
from tests.unit.workers.tuning import SUMS
from workers.context import JobContext, Meter, Tools
from workers.datasets import Datasets
from workers.engine import Engine
from workers.finetune import finetune, tuned_id
from workers.models import Models, Sources

REQUEST = FineTuneRequest(
    model="llama",
    dataset=Dataset(uri="sums.jsonl"),
    hyperparameters=Hyperparameters(max_steps=5, batch_size=16),
    method=Method(rank=4),
)
AWAY = ServerUnreachable("The artifact store", "s3://kept", "it is away")


@dataclass
class Announcements:
    """What watchers would see."""

    events: list[ProgressEvent] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    listen: Callable[[ProgressEvent], None] = lambda _: None

    def progress(self, job: Job, event: ProgressEvent) -> None:
        assert event.job_id == job.id
        self.events.append(event)
        self.listen(event)

    def status(self, job: Job, state: State) -> None:
        assert job.tenant == "anna"
        self.states.append(state)


class Workshop:
    """A worker's tools but for the engine, and the tuned models that its jobs have made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: dict[tuple[str, str], TunedModel] = {}
        self.artifacts = FailingArtifacts(directory)
        self.models = Models(Sources([directory], self, self.artifacts), torch.device("cpu"), 10**9)
        self.trainer = ThreadPoolExecutor(1)
        #: What the next looks for tuned models fail with.
        self.failures: list[Exception] = []
        self.announced = Announcements()
        self.checkpoints = KeptCheckpoints(directory / "checkpoints")
        # Fine-tuning does not decode.
        engine = cast(Engine, None)
        self.tools = Tools(self.models, engine, Datasets([directory]), self.artifacts, self.trainer)

    def find(self, tenant: str, model_id: str) -> TunedModel | None:
        if self.failures:
            raise self.failures.pop()
        return self.made.get((tenant, model_id))

    def context(self, request: FineTuneRequest, job_id: str = "job-1") -> JobContext:
        return JobContext(job_of(request, job_id), self.tools, self.announced, self.checkpoints)

    def run(self, request: FineTuneRequest, job_id: str = "job-1") -> tuple[FineTuneResult, Meter]:
        ctx = self.context(request, job_id)
        result = asyncio.run(finetune(request, ctx))
        self.made["anna", result.model] = TunedModel(
            result.model, result.base, result.method, result.artifact_uri, result.artifact_sha256, result.size_bytes
        )
        return result, ctx.meter


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    save_tiny_model(tmp_path / "llama")
    (tmp_path / "sums.jsonl").write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in SUMS))
    workshop = Workshop(tmp_path)
    yield workshop
    workshop.models.close()
    workshop.trainer.shutdown()


def test_a_fine_tune_publishes_a_model_that_can_be_borrowed(workshop: Workshop) -> None:
    result, meter = workshop.run(structs.replace(REQUEST, validation=Dataset(records=SUMS[:5])))

    assert (result.base, result.method, result.steps, result.examples) == ("llama", "lora", 5, len(SUMS))
    assert result.model == f"ft:llama:tuned:{result.model[-8:]}"
    assert result.validation_loss is not None
    assert 0 < result.validation_loss < 6
    assert 0 < result.train_loss < 6

    async def borrow() -> str:
        async with workshop.models.borrow("anna", result.model, None, Meter()) as model:
            return model.ref.id

    assert asyncio.run(borrow()) == result.model
    assert meter.train_tokens >= 5 * 16 * 5
    assert min(meter.device_s, meter.load_s, result.train_s) > 0
    assert (meter.base, meter.adapter) == ("llama", None)
    assert len(meter.dataset_sha256 or "") == 64


def test_a_fine_tune_tells_its_watchers_how_far_it_is(workshop: Workshop) -> None:
    workshop.run(REQUEST)

    assert workshop.announced.states == [State.LOADING, State.RUNNING]
    steps = [event.step for event in workshop.announced.events if isinstance(event, TrainProgress)]
    assert (steps[0], steps[-1]) == (1, 5)


def test_a_repeated_attempt_gives_the_same_model(workshop: Workshop) -> None:
    (first, _), (second, _) = workshop.run(REQUEST), workshop.run(REQUEST)

    assert (first.model, first.artifact_sha256) == (second.model, second.artifact_sha256)
    assert first.train_loss == second.train_loss


@pytest.mark.parametrize("second", ["lora", "full"])
def test_a_tuned_model_can_be_tuned_further(workshop: Workshop, second: str) -> None:
    tuned, _ = workshop.run(REQUEST)
    method = REQUEST.method if second == "lora" else Method("full")

    further, meter = workshop.run(structs.replace(REQUEST, model=tuned.model, method=method), "job-2")
    last, _ = workshop.run(structs.replace(REQUEST, model=further.model), "job-3")

    assert further.base == ("llama" if second == "lora" else tuned.model)
    assert last.base == ("llama" if second == "lora" else further.model)
    assert last.model.startswith("ft:llama:tuned:")
    assert meter.adapter == tuned.model


def test_the_id_of_a_tuned_model_is_the_job_s_own() -> None:
    job = job_of(REQUEST, "job-1")
    ids = {
        tuned_id(job, "base", "x"),
        tuned_id(job_of(REQUEST, "job-2"), "base", "x"),
        tuned_id(structs.replace(job, tenant="ben"), "base", "x"),
    }

    assert len(ids) == 3
    assert tuned_id(structs.replace(job, attempt=2), "base", "x") in ids
    assert tuned_id(job, "ft:owner/base:dates:12345678", "x").startswith("ft:owner/base:x:")
    assert len(tuned_id(job, "b" * MODEL_CHARS, "x" * 40)) == MODEL_CHARS


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"model": "missing"}, ModelNotFound, "'missing' was not found"),
        ({"model": "ft:llama:tuned:00000000"}, ModelNotFound, "tenant 'anna'"),
        ({"dataset": Dataset(uri="missing.jsonl")}, DatasetUnreachable, "missing.jsonl"),
        ({"dataset": Dataset(uri="../sums.jsonl")}, DatasetUnreachable, "no such file"),
        ({"dataset": Dataset(uri="broken.jsonl")}, DatasetInvalid, "Line 2 of the dataset: it is not JSON"),
        ({"dataset": Dataset(uri="empty.jsonl")}, DatasetInvalid, "no example"),
        ({"validation": Dataset(uri="broken.jsonl")}, DatasetInvalid, "Line 2 of the dataset"),
        ({"dataset": Dataset(records=(Record("x" * 200, "y"),))}, DatasetInvalid, "Line 1 .* 202 tokens"),
        ({"hyperparameters": Hyperparameters(max_length=4_096)}, Unsupported, "max_length is 4,096"),
        ({"method": Method(target_modules=("nothing",))}, Unsupported, "nothing"),
        (
            {
                "hyperparameters": Hyperparameters(
                    max_steps=200, batch_size=16, learning_rate=1, max_grad_norm=1_000, schedule="constant"
                ),
                "method": Method(rank=64, alpha=4_096),
                "model": "hot",
            },
            TrainingDiverged,
            "learning rate 1",
        ),
    ],
)
def test_what_can_t_be_done_fails_with_one_clear_error_and_the_next_job_runs(
    workshop: Workshop, change: dict[str, object], error: type[JobError], reason: str
) -> None:
    (workshop.directory / "broken.jsonl").write_bytes(b'{"prompt": "a", "completion": "b"}\n{oops\n')
    (workshop.directory / "empty.jsonl").touch()
    _save_hot_model(workshop.directory / "hot")

    with pytest.raises(error, match=reason):
        workshop.run(structs.replace(REQUEST, **change))

    assert workshop.run(REQUEST)[0].steps == 5


def test_a_cancelled_fine_tune_publishes_nothing(workshop: Workshop) -> None:
    ctx = workshop.context(REQUEST)
    ctx.stop(JobCancelled("by the client"))

    with pytest.raises(JobCancelled):
        asyncio.run(finetune(REQUEST, ctx))

    assert not (workshop.directory / "store").exists()


@pytest.mark.parametrize("method", [Method(rank=4), Method("full")], ids=["lora", "full"])
@pytest.mark.parametrize("reason", [JobReturned("the worker leaves"), JobPaused("by the client")], ids=str)
def test_a_suspended_fine_tune_goes_on_where_it_stood_and_comes_to_the_same_model(
    workshop: Workshop, method: Method, reason: JobSuspended
) -> None:
    request = structs.replace(REQUEST, method=method, validation=Dataset(records=SUMS[:5]))
    expected, whole = workshop.run(request)

    ctx = workshop.context(request)
    workshop.announced.listen = lambda event: ctx.stop(reason) if isinstance(event, TrainProgress) else None
    with pytest.raises(type(reason)):
        asyncio.run(finetune(request, ctx))
    workshop.announced.listen = lambda _: None
    assert workshop.checkpoints.positions == [1]
    used_s = ctx.meter.device_s
    result, meter = workshop.run(request)

    assert (result.model, result.artifact_sha256) == (expected.model, expected.artifact_sha256)
    assert (result.train_loss, result.validation_loss) == (expected.train_loss, expected.validation_loss)
    assert (result.steps, meter.train_tokens) == (5, whole.train_tokens)
    assert meter.device_s > used_s > 0
    assert any("Goes on after step 1" in event.message for event in workshop.announced.events if is_line(event))


def test_a_fine_tune_waits_for_a_store_that_does_not_give_its_checkpoint_now(workshop: Workshop) -> None:
    workshop.checkpoints.every_s = 1e-9
    expected, _ = workshop.run(REQUEST)
    workshop.announced.events.clear()
    workshop.checkpoints.failures.append(AWAY)

    result, _ = workshop.run(REQUEST)

    assert result.artifact_sha256 == expected.artifact_sha256
    assert [event.step for event in workshop.announced.events if isinstance(event, TrainProgress)] == [5]


def test_a_fine_tune_leaves_a_checkpoint_now_and_then(workshop: Workshop) -> None:
    workshop.checkpoints.every_s = 1e-9
    workshop.run(REQUEST)

    assert workshop.checkpoints.positions == [1, 2, 3, 4]


def test_a_checkpoint_of_a_dataset_that_was_changed_is_not_used(workshop: Workshop) -> None:
    workshop.checkpoints.every_s = 1e-9
    workshop.run(REQUEST)
    lines = (workshop.directory / "sums.jsonl").read_bytes().splitlines(keepends=True)
    (workshop.directory / "sums.jsonl").write_bytes(b"".join(reversed(lines)))
    del workshop.checkpoints.positions[-1]
    resumed, meter = workshop.run(REQUEST)

    workshop.checkpoints.positions.clear()
    straight, whole = workshop.run(REQUEST)
    assert resumed.artifact_sha256 == straight.artifact_sha256
    assert meter.train_tokens == whole.train_tokens


def test_a_cancelled_fine_tune_publishes_what_it_has_where_the_client_wants_that(workshop: Workshop) -> None:
    ctx = workshop.context(REQUEST)
    stop = JobCancelled("by the client", keep_partial=True)
    workshop.announced.listen = lambda event: ctx.stop(stop) if isinstance(event, TrainProgress) else None

    with pytest.raises(JobCancelled):
        asyncio.run(finetune(REQUEST, ctx))

    assert isinstance(ctx.partial, FineTuneResult)
    assert (ctx.partial.steps, ctx.partial.base) == (1, "llama")
    assert (workshop.directory / "store" / ctx.partial.artifact_sha256).is_dir()
    assert workshop.checkpoints.positions == []


def test_a_trained_model_waits_until_the_store_takes_it(workshop: Workshop) -> None:
    expected, _ = workshop.run(REQUEST)
    workshop.artifacts.failures += [AWAY, OSError(errno.ENOSPC, "No space left on device")]

    assert workshop.run(REQUEST)[0].artifact_sha256 == expected.artifact_sha256
    assert not workshop.artifacts.failures


def test_a_fine_tune_that_waits_for_the_store_can_be_given_back(workshop: Workshop) -> None:
    ctx = workshop.context(REQUEST)
    workshop.artifacts.failures += [AWAY] * 1_000
    workshop.artifacts.listen = lambda: ctx.stop(JobReturned("the worker leaves"))

    with pytest.raises(JobReturned):
        asyncio.run(finetune(REQUEST, ctx))


def test_what_a_cancelled_fine_tune_keeps_waits_for_the_store_too(workshop: Workshop) -> None:
    ctx = workshop.context(REQUEST)
    stop = JobCancelled("by the client", keep_partial=True)
    workshop.announced.listen = lambda event: ctx.stop(stop) if isinstance(event, TrainProgress) else None
    workshop.artifacts.failures.append(AWAY)

    with pytest.raises(JobCancelled):
        asyncio.run(finetune(REQUEST, ctx))

    assert isinstance(ctx.partial, FineTuneResult)
    assert (workshop.directory / "store" / ctx.partial.artifact_sha256).is_dir()


def test_a_cancelled_fine_tune_that_lost_its_lease_waits_for_nothing(workshop: Workshop) -> None:
    ctx = workshop.context(REQUEST)
    stop = JobCancelled("by the client", keep_partial=True)
    workshop.announced.listen = lambda event: ctx.stop(stop) if isinstance(event, TrainProgress) else None
    workshop.artifacts.failures += [AWAY] * 1_000
    workshop.artifacts.listen = lambda: ctx.stop(LeaseLost("another attempt owns it"))

    with pytest.raises(LeaseLost):
        asyncio.run(finetune(REQUEST, ctx))


def test_a_tuned_model_is_asked_for_until_the_database_answers(workshop: Workshop) -> None:
    tuned, _ = workshop.run(REQUEST)
    workshop.failures.append(ServerUnreachable("Postgres", "postgres", "it fails over"))

    assert workshop.run(structs.replace(REQUEST, model=tuned.model), "job-2")[0].base == "llama"


def test_a_tuned_model_that_the_store_can_t_give_now_ends_no_job(workshop: Workshop) -> None:
    tuned, _ = workshop.run(REQUEST)
    request = structs.replace(REQUEST, model=tuned.model)
    workshop.artifacts.lost = True

    with pytest.raises(ServerUnreachable, match=tuned.artifact_sha256):
        workshop.run(request, "job-2")

    workshop.artifacts.lost = False
    assert workshop.run(request, "job-2")[0].base == "llama"


def is_line(event: ProgressEvent) -> TypeGuard[LogProgress]:
    return isinstance(event, LogProgress)


def job_of(request: FineTuneRequest, job_id: str) -> Job:
    """The request as the first attempt at a job of tenant ``anna``."""
    now = datetime.now(UTC)
    return Job(id=job_id, tenant="anna", request=request, submitted_at=now, queued_at=now, traceparent="")


def _save_hot_model(directory: Path) -> None:
    """A model whose weights are so large that its logits overflow."""
    save_tiny_model(directory)
    path = directory / "model.safetensors"
    weights = {name: tensor * 1e30 for name, tensor in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
