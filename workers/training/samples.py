"""Examples as tokens: what the model reads, and from where on it is trained to write."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from schemas import limits
from schemas.errors import DatasetInvalid, Unsupported
from schemas.requests import Dataset, Record
from workers.datasets import Datasets
from workers.models import LoadedModel

#: Examples between two looks at whether the job shall go on: some tens of milliseconds.
EXAMPLES_PER_CHECK = 256
#: What to do about a dataset that is too large for one fine-tune.
SPLIT = "Split the dataset, and tune the model further with each part."


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


class SampleTable(Sequence[Sample]):
    """Samples side by side in three arrays: 4 bytes a token and 12 a sample, where objects would take hundreds.

    So many of them are bounded by what they take of a worker's memory, which is there for other jobs too.
    """

    def __init__(self, most_samples: int = limits.TRAIN_EXAMPLES, most_tokens: int = limits.TRAIN_TOKENS) -> None:
        self._most_samples, self._most_tokens = most_samples, most_tokens
        self._ids = array("i")
        #: Where in ``_ids`` each sample ends, after a zero.
        self._ends = array("q", [0])
        self._prompts = array("i")

    def add(self, sample: Sample, line: int) -> None:
        """Append what was made of this line of the dataset.

        Raises:
            DatasetInvalid: with it they are too many, or too long together (final).
        """
        if len(self) == self._most_samples:
            raise DatasetInvalid(
                f"it is one more than the {self._most_samples:,} examples of a fine-tune, the limit. {SPLIT}", line
            )
        tokens = len(self._ids) + len(sample)
        if tokens > self._most_tokens:
            raise DatasetInvalid(
                f"up to here the examples have {tokens:,} tokens; the limit of a fine-tune is {self._most_tokens:,}. "
                f"{SPLIT}",
                line,
            )
        self._ids.extend(sample.ids.tolist())
        self._ends.append(tokens)
        self._prompts.append(sample.prompt_tokens)

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        place = range(len(self))[index]
        ids = self._ids[self._ends[place] : self._ends[place + 1]]
        return Sample(np.array(ids, dtype=np.int64), self._prompts[place])


@dataclass(frozen=True)
class Samples:
    """A whole dataset as tokens, with the digest of its bytes."""

    items: Sequence[Sample]
    sha256: str


def read_samples(
    datasets: Datasets, dataset: Dataset, model: LoadedModel, max_length: int | None, check: Callable[[], None]
) -> Samples:
    """Read and tokenize a dataset; ``check`` is called now and then and may raise.

    ``max_length`` is in tokens, the end token included; the model's window where it is None.

    Raises:
        DatasetUnreachable: the dataset can't be read (final).
        DatasetInvalid: a line is not an example or is too long, or there are too many; the message names it (final).
        ServerUnreachable: the dataset can't be read now (retryable).
        Unsupported: ``max_length`` is beyond the model's window, or the tokenizer has no end token (final).
    """
    limit = _limit(model, max_length)
    items = SampleTable()
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
            items.add(sample, example.line)
        return Samples(items, reading.sha256)


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
