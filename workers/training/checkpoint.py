"""A training run on disk: tensors as safetensors, everything else as JSON, nothing pickled.

Nothing random has a state to keep: an adapter is drawn from the request's seed, the order of the examples from seed
and epoch, and dropout is off. So weights, the optimizer's moments and the number of the step are all of it.
"""

from collections import deque
from pathlib import Path
from typing import Final

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from schemas.requests import Method
from workers.training.disk import disk_errors
from workers.training.loop import Reached, TrainingRun
from workers.training.plan import Plan

WEIGHTS_NAME: Final = "weights.safetensors"
OPTIMIZER_NAME: Final = "optimizer.safetensors"
#: What AdamW holds of each parameter.
MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")


class Recipe(msgspec.Struct, frozen=True):
    """What a run is made from. A checkpoint goes on with the same recipe alone.

    The digests are of the dataset's bytes, and of the files of the model that it began with.
    """

    dataset_sha256: str
    model_sha256: str
    method: Method
    plan: Plan


class TrainingState(msgspec.Struct, frozen=True):
    """The small part of a checkpoint. ``losses`` are summed losses and trained tokens of the last steps.

    ``device_s`` is the time that the attempts so far held the device, up to here.
    """

    recipe: Recipe
    step: int
    tokens: int
    train_s: float
    device_s: float
    losses: tuple[tuple[float, int], ...]


class CheckpointUnusable(Exception):
    """The checkpoint is another recipe's, or its files are not what a checkpoint of this run consists of."""


def state_of(run: TrainingRun, recipe: Recipe, device_s: float) -> TrainingState:
    """The small part of a checkpoint after the last whole step.

    Raises:
        TrainingDiverged: a loss since the last look is not finite (final).
    """
    run.read_losses()
    reached = run.reached
    return TrainingState(recipe, reached.step, reached.tokens, reached.train_s, device_s, tuple(reached.losses))


def write(run: TrainingRun, directory: Path) -> None:
    """The large part: trained weights, and the optimizer's moments of each.

    What no loss has reached so far (all that sees pictures, in a model that is given text) has none, and needs none.

    Raises:
        OSError: the disk does not take it.
    """
    moments = run.optimizer.state_dict()["state"]
    named = {
        f"{name}/{moment}": moments[index][moment]
        for index, name in enumerate(run.parameters)
        if index in moments
        for moment in MOMENTS
    }
    with disk_errors():
        save_file(_on_disk(dict(run.parameters.items())), directory / WEIGHTS_NAME)
        save_file(_on_disk(named), directory / OPTIMIZER_NAME)


def restore(run: TrainingRun, recipe: Recipe, state: TrainingState, directory: Path) -> None:
    """Put a run that has not begun to where the checkpoint was taken.

    Raises:
        CheckpointUnusable: it is of another recipe, or has other tensors than the run, which is as it was.
        OSError: the disk does not give it now, and the run is as it was.
    """
    if state.recipe != recipe:
        raise CheckpointUnusable("the data, the model or the plan are not those that it was made from")
    if lacking := [name for name in (WEIGHTS_NAME, OPTIMIZER_NAME) if not (directory / name).is_file()]:
        raise CheckpointUnusable(f"it has no {lacking[0]}")
    try:
        with disk_errors():
            weights, moments = load_file(directory / WEIGHTS_NAME), load_file(directory / OPTIMIZER_NAME)
    except SafetensorError as error:
        raise CheckpointUnusable(str(error)) from error
    _check(run, weights, moments)
    with torch.no_grad():
        for name, parameter in run.parameters.items():
            parameter.copy_(weights[name])
    settings = run.optimizer.state_dict()
    settings["state"] = {
        index: {moment: moments[f"{name}/{moment}"] for moment in MOMENTS}
        for index, name in enumerate(run.parameters)
        if f"{name}/{MOMENTS[0]}" in moments
    }
    run.optimizer.load_state_dict(settings)
    run.resume(Reached(state.step, state.tokens, state.train_s, deque(state.losses)))


def _check(run: TrainingRun, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]) -> None:
    shapes = {name: parameter.shape for name, parameter in run.parameters.items()}
    with_moments = {name.rpartition("/")[0] for name in moments}
    of_moments = {
        f"{name}/{moment}": torch.Size() if moment == "step" else shape
        for name, shape in shapes.items()
        if name in with_moments
        for moment in MOMENTS
    }
    for found, expected in ((weights, shapes), (moments, of_moments)):
        if {name: tensor.shape for name, tensor in found.items()} != expected:
            raise CheckpointUnusable("its tensors are not those that are trained")


def _on_disk(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
