"""A dataset's examples as questions: what a model is given, and what it should answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from schemas import limits
from schemas.errors import DatasetInvalid, Unsupported
from schemas.requests import Dataset
from workers.datasets import Datasets, Example
from workers.engine.losses import Pair
from workers.models import LoadedModel

#: Lines between two looks at whether the job shall go on.
LINES_PER_CHECK: Final = 1_024


@dataclass(frozen=True)
class Survey:
    """A dataset that was read once in whole: how many examples are used, and its digest.

    ``used_sha256`` is the digest of its bytes up to the last example that is used.
    """

    examples: int
    sha256: str
    used_sha256: str

    def confirm(self, examples: int, sha256: str) -> None:
        """Compare a second reading of what is used: the number of examples, and the digest up to the last one.

        Raises:
            DatasetInvalid: it was changed in between, so the scores are of no dataset that there is (final).
        """
        if (examples, sha256) == (self.examples, self.used_sha256):
            return
        now = f"{examples:,} are left" if examples != self.examples else "they are others now"
        raise DatasetInvalid(
            f"it was changed while it was evaluated: of the {self.examples:,} examples that it began with, {now}. "
            "Submit the evaluation again, with a file that nobody writes to."
        )


def survey(
    datasets: Datasets,
    dataset: Dataset,
    max_examples: int | None,
    check: Callable[[], None],
    limit: int = limits.EVALUATION_EXAMPLES,
) -> Survey:
    """Read a dataset to its end, so that a bad line is found before a model answers anything.

    Raises:
        DatasetUnreachable: the dataset can't be read (final).
        DatasetInvalid: a line is not an example, or there are none, or more than ``limit`` to be used (final).
        ServerUnreachable: the dataset can't be read now (retryable).
    """
    examples, used_sha256 = 0, ""
    with datasets.open(dataset) as reading:
        for example in reading:
            if examples % LINES_PER_CHECK == 0:
                check()
            examples += 1
            if max_examples is None and examples > limit:
                raise DatasetInvalid(
                    f"it is one more than the {limit:,} examples of an evaluation, the limit. "
                    "Pass max_examples to use the first ones, or split the dataset.",
                    example.line,
                )
            if examples <= (max_examples or limit):
                used_sha256 = reading.sha256
        return Survey(min(examples, max_examples or examples), reading.sha256, used_sha256)


def encode(model: LoadedModel, example: Example, max_tokens: int) -> Pair:
    """An example's prompt, which the model continues by ``max_tokens`` at most, and the wanted answer with its end.

    Raises:
        DatasetInvalid: it does not fit the model's window, or is no conversation for it; names the line (final).
        Unsupported: the tokenizer has no end token (final).
    """
    try:
        prompt_ids, answer_ids = model.encode_record(example.record)
    except Unsupported as error:
        if model.tokenizer.eos_token_id is None:
            raise
        raise DatasetInvalid(str(error), example.line) from error
    pair = Pair(tuple(prompt_ids), tuple(answer_ids))
    tokens = len(pair.prompt_ids) + max(max_tokens, len(pair.completion_ids))
    if tokens > model.window:
        raise DatasetInvalid(
            f"its prompt has {len(pair.prompt_ids):,} tokens, its answer {len(pair.completion_ids):,}, and max_tokens "
            f"is {max_tokens:,}; the window of model {model.ref.id} is {model.window:,}. Shorten it.",
            example.line,
        )
    if not pair.prompt_ids:
        raise DatasetInvalid(
            f"model {model.ref.id} makes no token of its prompt, so nothing can follow it.", example.line
        )
    return pair
