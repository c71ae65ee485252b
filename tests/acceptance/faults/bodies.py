"""Requests as their bytes. A prompt is ``variant:milliseconds``, which the handlers under test obey."""

from datetime import datetime
from typing import Final
from zlib import crc32

from schemas.codec import encode
from schemas.requests import Dataset, EvaluateRequest, FineTuneRequest, GenerateRequest, Hyperparameters, Record

#: The body that an id is first used with, and the one of a conflict.
FIRST: Final = "first"
OTHER: Final = "other"
#: A job of this variant kills its worker.
POISON: Final = "poison"

#: Ids of models that nobody loads, several so that every worker is the home of one.
MODELS: Final = 6

#: What no reader can read: nothing, no JSON, another type; no text in a string, in a field of each kind of event; and
#: deeper nesting than a stack has room for, in a field that is skipped.
GARBAGE: Final = (
    None,
    b"",
    b"\xff\xfe{",
    b"[" * 5_000,
    b'{"worker_id":7}',
    b'{"tenant":"\xff","worker_id":"\xff","source":"\xff","lease":{"tenant":"\xff"}}',
    b'{"unknown":' + b"[" * 5_000,
)

_DATASET: Final = Dataset(records=(Record("1->", "one"),))


def generate(tenant: str, job_id: str, variant: str, milliseconds: int, deadline: datetime | None = None) -> bytes:
    """A generation that takes so long."""
    prompt = f"{variant}:{milliseconds}"
    return encode(GenerateRequest(id=job_id, tenant=tenant, model=_model(job_id), prompt=prompt, deadline=deadline))


def finetune(tenant: str, job_id: str, steps: int) -> bytes:
    """A fine-tune of so many steps."""
    parameters = Hyperparameters(max_steps=steps)
    return encode(
        FineTuneRequest(id=job_id, tenant=tenant, model=_model(job_id), dataset=_DATASET, hyperparameters=parameters)
    )


def evaluate(tenant: str, job_id: str) -> bytes:
    """An evaluation."""
    return encode(EvaluateRequest(id=job_id, tenant=tenant, model=_model(job_id), dataset=_DATASET))


def _model(job_id: str) -> str:
    return f"none-{crc32(job_id.encode()) % MODELS}"
