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
#: Rows that are JSON in memory at once: a megabyte or two.
ROWS_PER_WRITE: Final = 10_000


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
    rows = marks.rows
    with (directory / MARKS_NAME).open("wb") as file:
        for first in range(0, len(rows), ROWS_PER_WRITE):
            file.write(b"," if first else b"[")
            file.write(msgspec.json.encode(rows[first : first + ROWS_PER_WRITE].tolist())[1:-1])
        file.write(b"]")
    shutil.copyfile(outputs, directory / OUTPUTS_NAME)


def restore(marks: Marks, outputs: Path, directory: Path) -> None:
    """Fill ``marks``, which are empty, and the file of outputs as they were when the checkpoint was taken.

    Raises:
        ValueError: the files are not a checkpoint of such an evaluation; nothing was changed.
        OSError: a disk does not give them or take them now; no marks were changed.
    """
    if lacking := [name for name in (MARKS_NAME, OUTPUTS_NAME) if not (directory / name).is_file()]:
        raise ValueError(f"it has no {lacking[0]}")
    rows = msgspec.json.decode((directory / MARKS_NAME).read_bytes(), type=list[list[float]])
    if any(len(row) != marks.width for row in rows):
        raise ValueError(f"its rows don't have the {marks.width} numbers of these metrics")
    shutil.copyfile(directory / OUTPUTS_NAME, outputs)
    marks.extend(rows)
