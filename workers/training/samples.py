"""Examples as tokens: what the model reads, and from where on it is trained to write."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DatasetInvalid, Unsupported
from schemas.requests import Dataset, Record
from workers.datasets import Datasets
from workers.models import LoadedModel

#: Examples between two looks at whether the job shall go on: some tens of milliseconds.
EXAMPLES_PER_CHECK = 256


@dataclass(frozen=True, eq=False)
class Sample:
    """One example. ``ids`` [tokens] are prompt, completion and end; those from ``prompt_tokens`` on are trained."""

    ids: NDArray[np.int64]
    prompt_tokens: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def trained_tokens(self) -> int:
        """How many tokens the loss is taken over."""
        return len(self.ids) - self.prompt_tokens


@dataclass(frozen=True)
class Samples:
    """A whole dataset as tokens, with the digest of its bytes."""

    items: tuple[Sample, ...]
    sha256: str


def read_samples(
    datasets: Datasets, dataset: Dataset, model: LoadedModel, max_length: int | None, check: Callable[[], None]
) -> Samples:
    """Read and tokenize a dataset; ``check`` is called now and then and may raise.

    ``max_length`` is in tokens, the end token included; the model's window where it is None.

    Raises:
        DatasetUnreachable: the dataset can't be read (final).
        DatasetInvalid: a line is not an example or is too long; the message names it (final).
        Unsupported: ``max_length`` is beyond the model's window, or the tokenizer has no end token (final).
    """
    limit = _limit(model, max_length)
    items: list[Sample] = []
    with datasets.open(dataset) as reading:
        for example in reading:
            if len(items) % EXAMPLES_PER_CHECK == 0:
                check()
            try:
                sample = _sample(model, example.record)
            except Unsupported as error:
                if model.tokenizer.eos_token_id is None:
                    raise
                raise DatasetInvalid(str(error), example.line) from error
            if len(sample) > limit:
                raise DatasetInvalid(_too_long(len(sample), limit, model.window), example.line)
            if not sample.trained_tokens:
                raise DatasetInvalid("it has no token to train on.", example.line)
            items.append(sample)
        return Samples(tuple(items), reading.sha256)


def _limit(model: LoadedModel, max_length: int | None) -> int:
    if max_length is not None and max_length > model.window:
        raise Unsupported(
            f"max_length is {max_length:,} tokens; the window of model {model.ref.id} is {model.window:,}. "
            "Lower max_length, or leave it out."
        )
    return max_length or model.window


def _too_long(tokens: int, limit: int, window: int) -> str:
    mend = "Shorten it" if limit == window else f"Shorten it, or raise max_length (the model's window is {window:,})"
    return f"it has {tokens:,} tokens with its end; the limit is {limit:,}. {mend}."


def _sample(model: LoadedModel, record: Record) -> Sample:
    prompt, answer = model.encode_record(record)
    # The first token can't be predicted: with an empty prompt nothing comes before it.
    return Sample(np.array([*prompt, *answer], dtype=np.int64), max(1, len(prompt)))
