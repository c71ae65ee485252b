"""What clients ask for: one struct a kind, validated as it is decoded.

Requests refuse unknown fields, unlike every other event: a misspelt ``max_token`` that is silently
ignored would run another job than the one that was asked for.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from schemas import limits
from schemas.topics import Kind

DEFAULT_TENANT: Final = "default"

# Python's `$` also matches before a newline at the end, which `(?!\n)` rules out.
JobId = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$(?!\n)", min_length=1, max_length=limits.JOB_ID_CHARS)
]
Tenant = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)", min_length=1, max_length=limits.TENANT_CHARS)
]
#: A model's id: a name under a model root, an adapter's id, or a hub's ``owner/name``. No path that climbs.
ModelId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._:/@+-]*$(?!\n)",
        min_length=1,
        max_length=limits.MODEL_CHARS,
    ),
]
Uri = Annotated[str, Meta(min_length=1, max_length=limits.URI_CHARS)]
Time = Annotated[datetime, Meta(tz=True)]
Seed = Annotated[int, Meta(ge=0, le=limits.SEED)]
Text = Annotated[str, Meta(min_length=1)]
StopText = Annotated[str, Meta(min_length=1, max_length=limits.STOP_CHARS)]


class Priority(StrEnum):
    """How soon a job should run, against the same tenant's others and everybody's."""

    HIGH = "high"
    NORMAL = "normal"
    BATCH = "batch"


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Record(Struct, frozen=True, omit_defaults=True):
    """One example: a prompt with its completion, or a conversation that ends with the assistant.

    Further fields of a line (provenance, say) are ignored.
    """

    prompt: Text | None = None
    completion: str | None = None
    messages: Annotated[tuple[Message, ...], Meta(min_length=2, max_length=limits.MESSAGES)] | None = None

    def __post_init__(self) -> None:
        pair = self.prompt is not None and self.completion is not None
        if self.messages is None:
            if not pair:
                raise ValueError("An example needs `prompt` and `completion`, or `messages`")
        elif self.prompt is not None or self.completion is not None:
            raise ValueError("An example has `prompt` and `completion`, or `messages`, not both")
        elif self.messages[-1].role != "assistant":
            raise ValueError(f"An example's last message is the assistant's, not the {self.messages[-1].role}'s")


class Dataset(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Examples by reference (a JSONL file's URI) or in the request itself."""

    uri: Uri | None = None
    records: Annotated[tuple[Record, ...], Meta(min_length=1, max_length=limits.RECORDS)] | None = None

    def __post_init__(self) -> None:
        if (self.uri is None) == (self.records is None):
            raise ValueError("A dataset has either `uri` or `records`")


class RequestFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every request has: who asks for which model, how soon, and until when."""

    model: ModelId
    id: JobId | None = None
    tenant: Tenant = DEFAULT_TENANT
    priority: Priority = Priority.NORMAL
    deadline: Time | None = None

    def __post_init__(self) -> None:
        # The first and the last year can't be converted to every time zone.
        if self.deadline and not 1 < self.deadline.year < 9_999:
            raise ValueError(f"A deadline's year is from 2 to 9998, not {self.deadline.year}")


class GenerateRequest(RequestFields, frozen=True, kw_only=True, tag=Kind.GENERATE.value, tag_field="kind"):
    """Continue a prompt, a conversation, or many prompts.

    ``temperature`` 0 is greedy. ``n`` answers are drawn for each prompt; with a ``seed`` they
    repeat. ``stream`` publishes the text on the progress topic as it comes.
    """

    prompt: Text | None = None
    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=limits.MESSAGES)] | None = None
    prompts: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=limits.PROMPTS)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=limits.NEW_TOKENS)] = 256
    temperature: Annotated[float, Meta(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: Seed | None = None
    stop: Annotated[tuple[StopText, ...], Meta(max_length=limits.STOP_STRINGS)] = ()
    n: Annotated[int, Meta(ge=1, le=limits.CHOICES)] = 1
    stream: bool = False
    adapter: ModelId | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("prompt", "messages", "prompts") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"A request has one of `prompt`, `messages` and `prompts`, this one {given or 'none'}")
        total = len(self.prompts or ("",)) * self.n * self.max_tokens
        if total > limits.REQUEST_NEW_TOKENS:
            raise ValueError(
                f"prompts x n x max_tokens is {total:,}; the limit is {limits.REQUEST_NEW_TOKENS:,}. Split the request"
            )


class Method(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How weights are tuned: low-rank adapters (Hu et al., 2021, arXiv:2106.09685), or all of them.

    ``alpha`` defaults to twice the rank; ``target_modules`` to every linear layer but the head.
    """

    type: Literal["lora", "full"] = "lora"
    rank: Annotated[int, Meta(ge=1, le=limits.LORA_RANK)] = 16
    alpha: Annotated[float, Meta(gt=0, le=4 * limits.LORA_RANK)] | None = None
    target_modules: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=64)] | None = None


class Hyperparameters(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long and how fast to train.

    ``epochs`` or ``max_steps`` (one epoch where neither is given); a step is one optimizer update of
    ``batch_size`` examples. ``max_length`` is in tokens; the default is the model's window.
    ``packing`` puts several short examples into one row, without attention between them.
    """

    epochs: Annotated[float, Meta(gt=0, le=limits.TRAIN_EPOCHS)] | None = None
    max_steps: Annotated[int, Meta(ge=1, le=limits.TRAIN_STEPS)] | None = None
    batch_size: Annotated[int, Meta(ge=1, le=limits.TRAIN_BATCH)] = 16
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 2e-4
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_steps: Annotated[int, Meta(ge=0, le=limits.TRAIN_STEPS)] = 0
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.0
    max_grad_norm: Annotated[float, Meta(gt=0, le=1_000)] = 1.0
    max_length: Annotated[int, Meta(ge=2, le=limits.SEQUENCE_TOKENS)] | None = None
    packing: bool = True

    def __post_init__(self) -> None:
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError("A run is bounded by `epochs` or by `max_steps`, not by both")


class FineTuneRequest(RequestFields, frozen=True, kw_only=True, tag=Kind.FINETUNE.value, tag_field="kind"):
    """Tune a model on a dataset; the result names the tuned model's id."""

    dataset: Dataset
    validation: Dataset | None = None
    method: Method = Method()
    hyperparameters: Hyperparameters = Hyperparameters()
    suffix: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*$(?!\n)", max_length=limits.SUFFIX_CHARS)] = "tuned"
    seed: Seed = 0


class Metric(StrEnum):
    """What an evaluation measures, a mean over its examples.

    ``exact_match``: the answer equals the completion but for white space at its ends, 0 or 1.
    ``chrf``: character F-score (Popović, 2015, by sacrebleu), 0 to 100.
    ``perplexity``: e to the mean loss of the completion's tokens; lower is better.
    """

    EXACT_MATCH = "exact_match"
    CHRF = "chrf"
    PERPLEXITY = "perplexity"


class Gate(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What has to hold: a bound on a metric, and optionally a significant gain over the baseline."""

    metric: Metric
    minimum: float | None = None
    maximum: float | None = None
    better_than_baseline: bool = False

    def __post_init__(self) -> None:
        if self.minimum is None and self.maximum is None and not self.better_than_baseline:
            raise ValueError("A gate needs `minimum`, `maximum` or `better_than_baseline`")


class EvaluateRequest(RequestFields, frozen=True, kw_only=True, tag=Kind.EVALUATE.value, tag_field="kind"):
    """Score a model on a dataset, and compare it with a baseline on the same examples."""

    dataset: Dataset | None = None
    task: Text | None = None
    metrics: Annotated[tuple[Metric, ...], Meta(min_length=1, max_length=len(Metric))] = (Metric.EXACT_MATCH,)
    baseline: ModelId | None = None
    gate: Gate | None = None
    max_examples: Annotated[int, Meta(ge=1, le=limits.EVALUATION_EXAMPLES)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=limits.NEW_TOKENS)] = 64
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dataset is None) == (self.task is None):
            raise ValueError("An evaluation has either `dataset` or `task`")
        if self.gate and self.gate.metric not in self.metrics:
            raise ValueError(f"The gate's metric `{self.gate.metric}` is not among `metrics`")
        if self.gate and self.gate.better_than_baseline and self.baseline is None:
            raise ValueError("A gate with `better_than_baseline` needs `baseline`")


Request = GenerateRequest | FineTuneRequest | EvaluateRequest

REQUEST_TYPES: Final[dict[Kind, type[Request]]] = {
    Kind.GENERATE: GenerateRequest,
    Kind.FINETUNE: FineTuneRequest,
    Kind.EVALUATE: EvaluateRequest,
}


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An admitted request: its id, its attempt, and what is to be done."""

    id: JobId
    tenant: Tenant
    request: Request
    attempt: Annotated[int, Meta(ge=1)] = 1
    submitted_at: Time
    queued_at: Time
    #: Whose trace it belongs to (W3C Trace Context), as it came with the request or made at intake.
    traceparent: str
    #: Digest of the request's bytes, which tells a repeat from a conflict.
    request_sha256: str = field(default="")

    @property
    def kind(self) -> Kind:
        """What is asked for."""
        match self.request:
            case GenerateRequest():
                return Kind.GENERATE
            case FineTuneRequest():
                return Kind.FINETUNE
            case EvaluateRequest():
                return Kind.EVALUATE
