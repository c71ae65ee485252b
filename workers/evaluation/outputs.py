"""What the models gave for each example, as a JSONL file for whoever asks why a score is what it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from schemas.requests import Metric
from workers.datasets import Example
from workers.evaluation.marks import Answer, Mark, expected

OUTPUTS_NAME: Final = "outputs.jsonl"


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one model gave. ``scores`` are this example's alone; for perplexity, e to its mean loss."""

    model: str
    scores: dict[Metric, float]
    text: str | None = None


class OutputLine(msgspec.Struct, frozen=True):
    """One example: its line in the dataset, the wanted answer, the model's output and the baseline's."""

    line: int
    expected: str
    outputs: tuple[Output, ...]


def line_of(example: Example, metrics: Sequence[Metric], given: Sequence[tuple[str, Answer, Sequence[Mark]]]) -> bytes:
    """An example with what each model gave: its id, its answer, and a mark for each metric."""
    outputs = tuple(
        Output(model, {metric: mark.score(metric) for metric, mark in zip(metrics, marks, strict=True)}, answer.text)
        for model, answer, marks in given
    )
    return msgspec.json.encode(OutputLine(example.line, expected(example.record), outputs)) + b"\n"


def append(path: Path, lines: bytes) -> None:
    """Append lines to the file, which is made if need be: all of them or, where the disk is full, none.

    Raises:
        OSError: the disk does not take them.
    """
    with path.open("ab", buffering=0) as file:
        size_bytes = file.tell()
        left = memoryview(lines)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(size_bytes)
            raise
