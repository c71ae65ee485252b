"""What jobs come to: a result a kind, the outcome of an attempt, and the one terminal event."""

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from schemas.requests import JobId, Metric, Tenant, Time
from schemas.topics import Kind


class Terminal(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Choice(Struct, frozen=True):
    """One answer to one prompt. ``tokens`` counts the new ones, the end token not included.

    ``length``: it was cut off by ``max_tokens``; with fewer tokens than those, by a cancel that keeps them.
    """

    prompt: int
    index: int
    text: str
    tokens: int
    finish_reason: Literal["stop", "length"]


class GenerateResult(Struct, frozen=True, kw_only=True, tag=Kind.GENERATE.value, tag_field="kind"):
    """The answers, ordered by prompt, then by index."""

    choices: tuple[Choice, ...]


class FineTuneResult(Struct, frozen=True, kw_only=True, tag=Kind.FINETUNE.value, tag_field="kind"):
    """A tuned model: ``model`` is the id to ask for; ``artifact_sha256`` names its bytes.

    Losses are means per trained token, in nats, over the last tenth of the steps.
    """

    model: str
    base: str
    method: Literal["lora", "full"]
    artifact_uri: str
    artifact_sha256: str
    size_bytes: int
    steps: int
    examples: int
    train_loss: float
    validation_loss: float | None = None
    train_s: float


class Interval(Struct, frozen=True):
    """A mean with its 95 % confidence interval (percentile bootstrap, Efron 1979)."""

    mean: float
    low: float
    high: float


class Comparison(Struct, frozen=True, kw_only=True):
    """Model minus baseline, paired by example; significant where the interval leaves out 0."""

    baseline: Interval
    difference: Interval
    wins: int
    losses: int
    ties: int
    significant: bool


class Score(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One metric of one model, and of the baseline where there is one."""

    metric: Metric
    model: Interval
    comparison: Comparison | None = None


class GateVerdict(Struct, frozen=True, kw_only=True):
    """Whether the gate's conditions hold, and which does not."""

    passed: bool
    reason: str


class EvaluateResult(Struct, frozen=True, kw_only=True, tag=Kind.EVALUATE.value, tag_field="kind", omit_defaults=True):
    """The scores; each example's outputs are a JSONL file at ``outputs_uri``."""

    model: str
    examples: int
    scores: tuple[Score, ...]
    outputs_uri: str
    baseline: str | None = None
    gate: GateVerdict | None = None


Result = GenerateResult | FineTuneResult | EvaluateResult


class ErrorInfo(Struct, frozen=True):
    """Why a job failed, for its sender."""

    code: str
    message: str
    retryable: bool = False


class Usage(Struct, frozen=True, kw_only=True):
    """What a job consumed. ``gpu_s`` is the time its attempt held the device, CPU or GPU."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    train_tokens: int = 0
    gpu_s: float = 0.0


class Timings(Struct, frozen=True, kw_only=True):
    """Where a job's time went: in the queue, from lease to start, loading the model, running."""

    queued_s: float = 0.0
    dispatched_s: float = 0.0
    load_s: float = 0.0
    run_s: float = 0.0


class Lineage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a result was made from: digests of request and data, ids of models, version of the code."""

    request: str = ""
    code: str = ""
    dataset_sha256: str | None = None
    base: str | None = None
    adapter: str | None = None


class ResultEvent(Struct, frozen=True, kw_only=True):
    """The one terminal event of a job.

    ``result`` is what it succeeded with; of a cancelled job, what it had by then, if its client keeps that.
    """

    job_id: JobId
    tenant: Tenant
    kind: Kind
    status: Terminal
    attempt: int
    finished_at: Time
    result: Result | None = None
    error: ErrorInfo | None = None
    usage: Usage = Usage()
    timings: Timings = Timings()
    lineage: Lineage = Lineage()
