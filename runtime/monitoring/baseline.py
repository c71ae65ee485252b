"""Measurements kept in a file, which later ones are compared with."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from runtime.monitoring.benchmark import LEAST_EFFECT, Comparison, Measurement, compare_with
from schemas.errors import HeadraceError


class BaselineInvalid(HeadraceError):
    """A file that is no baseline."""

    code = "invalid_baseline"


def save_baseline(file: Path, measurements: Iterable[Measurement]) -> None:
    """Keep measurements in a JSON file; it is replaced whole, or not at all."""
    kept = {one.name: one for one in measurements}
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2))
    draft.replace(file)


def load_baseline(file: Path) -> dict[str, Measurement]:
    """The measurements of a file by their names; none of a file that is not there.

    Raises:
        BaselineInvalid: it is another file.
    """
    if not file.exists():
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Measurement])
    except msgspec.MsgspecError as error:
        raise BaselineInvalid(f"{file} is no baseline: {error}. Save one again with save_baseline.") from error


def compare_with_baseline(
    baseline: dict[str, Measurement], measurements: Iterable[Measurement], least_effect: float = LEAST_EFFECT
) -> list[Comparison]:
    """Each measurement beside the one of its name; one that is new has the verdict ``unknown``."""
    return [
        compare_with(baseline[one.name], one, least_effect)
        if one.name in baseline
        else Comparison(
            name=one.name, ratio=None, verdict="unknown", reason="It is not in the baseline: save it there."
        )
        for one in measurements
    ]
