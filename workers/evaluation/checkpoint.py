"""An evaluation on disk: the marks and the outputs of the examples that were scored, in whole chunks.

The numbers go through JSON and come back as they were, bit for bit.
"""

import shutil
from pathlib import Path
from typing import Final

import msgspec

from workers.context import Meter
from workers.evaluation.outputs import OUTPUTS_NAME
from workers.evaluation.summary import Marks

MARKS_NAME: Final = "marks.json"


class Basis(msgspec.Struct, frozen=True):
    """What is scored. A checkpoint goes on with the same basis alone; the rest is the request's, which never changes.

    The digests are of the dataset's bytes, and of the files of the model and of the baseline.
    """

    dataset_sha256: str
    examples: int
    models_sha256: tuple[str, ...]


class EvaluationState(msgspec.Struct, frozen=True):
    """The small part of a checkpoint: what was used for the examples that were scored."""

    basis: Basis
    prompt_tokens: int
    completion_tokens: int
    device_s: float

    def add_to(self, meter: Meter) -> None:
        """Count it for an attempt that goes on."""
        meter.prompt_tokens += self.prompt_tokens
        meter.completion_tokens += self.completion_tokens
        meter.device_s += self.device_s


def write(marks: Marks, outputs: Path, directory: Path) -> None:
    """The large part: marks, and the outputs that were written down so far."""
    (directory / MARKS_NAME).write_bytes(msgspec.json.encode(marks.rows))
    shutil.copyfile(outputs, directory / OUTPUTS_NAME)


def restore(marks: Marks, outputs: Path, directory: Path) -> None:
    """Fill ``marks``, which are empty, and the file of outputs as they were when the checkpoint was taken.

    Raises:
        ValueError, OSError: the files are not a checkpoint of such an evaluation; nothing was changed.
    """
    rows = msgspec.json.decode((directory / MARKS_NAME).read_bytes(), type=list[list[float]])
    width = 2 * len(marks.metrics) * (1 + marks.compared)
    if any(len(row) != width for row in rows):
        raise ValueError(f"its rows don't have the {width} numbers of these metrics")
    shutil.copyfile(directory / OUTPUTS_NAME, outputs)
    marks.rows.extend(rows)
