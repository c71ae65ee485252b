"""Every error of Headrace; ``code`` and ``retryable`` travel on the wire.

::

    HeadraceError
    ├── RequestRefused          at admission: a dead letter, and a failed result where an id can be read
    │   ├── MalformedRequest        the bytes are not JSON
    │   ├── InvalidRequest          a field is missing, unknown, of a wrong type or out of range
    │   ├── InvalidEnvelope         a CloudEvents header contradicts the topic
    │   ├── RequestTooLarge         the value is over the size limit
    │   ├── IdConflict              the id was used in this tenant for another body
    │   └── QuotaExceeded           the tenant has too many jobs waiting (retryable)
    ├── JobError                while running: a failed result
    │   ├── ModelNotFound           no such model or adapter for this tenant
    │   ├── ModelUnavailable        no tier could give it now (retryable)
    │   ├── ModelRejected           its files break a limit or are damaged
    │   ├── AdapterMismatch         the adapter was not made for this base
    │   ├── PromptTooLong           prompt and output do not fit the window
    │   ├── DatasetUnreachable      the URI can't be read
    │   ├── DatasetInvalid          a line is not a training example; names the line
    │   ├── TrainingDiverged        the loss is not finite
    │   ├── OutOfMemory             the device's memory does not suffice (retryable)
    │   ├── Unsupported             this worker can't do what was asked
    │   └── PoisonJob               it ended its worker too often
    ├── JobStopped              not a failure: the job ends early
    │   ├── JobCancelled
    │   └── JobExpired
    ├── JobSuspended            neither an end nor a failure: the job goes on later, from its last checkpoint
    │   ├── JobReturned             its worker gives it back, for another to run
    │   └── JobPaused               its client wants it to wait
    ├── LeaseLost               another attempt owns the job: drop everything, write nothing
    ├── ServerUnreachable       a server did not answer (retryable)
    ├── JobNotFound             no job of this id in this tenant
    └── ResultTimeout           no result within the caller's time (retryable)
"""

from typing import ClassVar

#: Longer values are cut in messages, which travel in headers and result events.
SHOWN_CHARS = 120


def shown(value: object) -> str:
    """The value as an error message shows it: its repr, cut to ``SHOWN_CHARS``."""
    try:
        return printable(repr(value))
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply to be shown"


def printable(text: str) -> str:
    """The text cut to ``SHOWN_CHARS``, control characters escaped: fit for headers, logs and databases."""
    cut = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[:SHOWN_CHARS])
    return cut if len(text) <= SHOWN_CHARS else f"{cut}… ({len(text):,} characters)"


class HeadraceError(Exception):
    """Anything that Headrace raises on purpose."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class RequestRefused(HeadraceError):
    """A request that can't be admitted."""

    code = "refused"


class MalformedRequest(RequestRefused):
    """The bytes are not JSON (or not UTF-8, or nested beyond what a reader follows)."""

    code = "malformed_request"


class InvalidRequest(RequestRefused):
    """JSON, but not a request of this kind."""

    code = "invalid_request"


class InvalidEnvelope(RequestRefused):
    """The CloudEvents headers contradict the topic or the specification."""

    code = "invalid_envelope"


class RequestTooLarge(RequestRefused):
    """The value is larger than a request may be."""

    code = "request_too_large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"The request has {size_bytes:,} bytes; the limit is {limit_bytes:,}. "
            "Put its data into a file and pass the file's URI."
        )


class IdConflict(RequestRefused):
    """The id was used before, for another body."""

    code = "id_conflict"

    def __init__(self, tenant: str, job_id: str) -> None:
        super().__init__(
            f"Job {job_id!r} of tenant {tenant!r} already exists with a different body and is untouched. "
            "Submit this one under a new id."
        )


class QuotaExceeded(RequestRefused):
    """The tenant has as many jobs waiting as it may have (retryable)."""

    code = "quota_exceeded"
    retryable = True

    def __init__(self, tenant: str, limit_jobs: int) -> None:
        super().__init__(
            f"Tenant {tenant!r} has {limit_jobs:,} jobs waiting, its limit. "
            "Submit this one again, under a new id, when some of them have started."
        )


class JobError(HeadraceError):
    """A job that ran and failed; the message is for whoever sent it."""

    code = "job_failed"


class ModelNotFound(JobError):
    """No model root, adapter of this tenant, or hub knows the id."""

    code = "model_not_found"

    def __init__(self, model: str, places: str) -> None:
        super().__init__(
            f"Model {shown(model)} was not found in {places}. "
            "Check the id; a tuned model's is in the result of its fine-tune."
        )


class ModelUnavailable(JobError):
    """The model is known, but no tier of the cache could give it now (retryable)."""

    code = "model_unavailable"
    retryable = True


class ModelRejected(JobError):
    """The model's files are damaged, hostile or beyond a limit."""

    code = "model_rejected"


class AdapterMismatch(JobError):
    """The adapter belongs to another base model."""

    code = "adapter_mismatch"

    def __init__(self, adapter: str, adapter_base: str, base: str) -> None:
        super().__init__(
            f"Adapter {shown(adapter)} was trained on {shown(adapter_base)}, not on {shown(base)}. "
            f"Ask for model {shown(adapter_base)}, or for the adapter alone."
        )


class PromptTooLong(JobError):
    """The prompt and its output do not fit the model's window."""

    code = "prompt_too_long"

    def __init__(self, prompt_tokens: int, output_tokens: int, window_tokens: int) -> None:
        super().__init__(
            f"The prompt has {prompt_tokens:,} tokens and max_tokens is {output_tokens:,}; the model's "
            f"window is {window_tokens:,}. Shorten the prompt or lower max_tokens."
        )


class DatasetUnreachable(JobError):
    """The dataset's URI can't be read."""

    code = "dataset_unreachable"

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"Dataset {shown(uri)} can't be read: {reason}")


class DatasetInvalid(JobError):
    """A line of the dataset is not an example, or the dataset breaks a limit."""

    code = "dataset_invalid"

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(f"Line {line:,} of the dataset: {reason}" if line else f"The dataset: {reason}")


class TrainingDiverged(JobError):
    """The loss became infinite or NaN."""

    code = "training_diverged"

    def __init__(self, step: int, loss: float, learning_rate: float) -> None:
        super().__init__(
            f"The loss was {loss} at step {step:,} with learning rate {learning_rate:g}. "
            "Lower the learning rate or raise the warm-up."
        )


class OutOfMemory(JobError):
    """The device ran out of memory (retryable: another worker may have more)."""

    code = "out_of_memory"
    retryable = True


class Unsupported(JobError):
    """A valid request that this version can't run."""

    code = "unsupported"


class PoisonJob(JobError):
    """The job ended its worker as often as a job may."""

    code = "poison_job"

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"The job's worker was lost in each of {attempts} attempts in a row, so it is not tried again. "
            "Look at the workers' logs, then submit it under a new id."
        )


class JobStopped(HeadraceError):
    """The job ends before its end, and that is no failure of it."""

    code = "stopped"


class JobCancelled(JobStopped):
    """A cancel request was seen at a checkpoint; ``keep_partial``: what there is by then becomes the result."""

    code = "cancelled"

    def __init__(self, reason: str, *, keep_partial: bool = False) -> None:
        self.keep_partial = keep_partial
        super().__init__(reason)


class JobExpired(JobStopped):
    """The request's deadline passed."""

    code = "expired"


class JobSuspended(HeadraceError):
    """The attempt ends and the job does not: what can be continued is checkpointed, and the lease is given back."""

    code = "suspended"


class JobReturned(JobSuspended):
    """The worker leaves; another one goes on."""

    code = "returned"


class JobPaused(JobSuspended):
    """The client wants the job to wait until it is resumed."""

    code = "paused"


class LeaseLost(HeadraceError):
    """Another attempt owns the job; whatever this one would write is refused."""

    code = "lease_lost"


class ServerUnreachable(HeadraceError):
    """A server did not answer in time."""

    code = "unreachable"
    retryable = True

    def __init__(self, server: str, address: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{server} at {address} is not reachable: {reason}. `headrace doctor` tells what is wrong.")


class JobNotFound(HeadraceError):
    """The tenant has no job of this id."""

    code = "job_not_found"

    def __init__(self, tenant: str, job_id: str) -> None:
        super().__init__(f"Tenant {tenant!r} has no job {job_id!r}. It may not be admitted yet, or be a dead letter.")


class ResultTimeout(HeadraceError):
    """No terminal event came within the caller's time; the job goes on."""

    code = "result_timeout"
    retryable = True

    def __init__(self, job_id: str, timeout_s: float) -> None:
        super().__init__(f"Job {job_id!r} has no result after {timeout_s:g} s. It goes on; ask again or cancel it.")
