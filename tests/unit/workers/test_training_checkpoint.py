"""A run that is stopped and resumed by another one: the same losses and weights, bit for bit."""

import errno
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from schemas.errors import JobReturned
from schemas.requests import Hyperparameters, Method
from tests.unit.workers.tuning import Watcher, load_tiny, start
from workers.models import LoadedModel
from workers.training import CheckpointUnusable, Recipe, TrainingRun, TrainingState, restore, state_of, write
from workers.training.checkpoint import OPTIMIZER_NAME, WEIGHTS_NAME
from workers.training.disk import disk_errors

STEPS = 12
LORA, FULL = Method(rank=4), Method("full")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(tmp_path_factory.mktemp("llama"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def begin(model: LoadedModel, method: Method, *, packing: bool = True) -> tuple[TrainingRun, Recipe]:
    hyper = Hyperparameters(
        max_steps=STEPS, batch_size=16, learning_rate=1e-2, packing=packing, warmup_steps=3, schedule="cosine"
    )
    _, run = start(model, hyper, method, seed=3)
    return run, Recipe("data", "model", method, run.plan)


class Stopping(Watcher):
    """Stops the run in its step of this number, counted from 0, after some of the step's passes."""

    def __init__(self, run: TrainingRun, step: int) -> None:
        super().__init__()
        self._run, self._step = run, step

    def check(self) -> None:
        if self._run.reached.step == self._step:
            raise JobReturned("the worker leaves")


def stop_and_save(run: TrainingRun, recipe: Recipe, step: int, directory: Path) -> TrainingState:
    """Leave a checkpoint as a job does that is suspended; its state as it comes back from JSON."""
    with pytest.raises(JobReturned):
        run.run(Stopping(run, step))
    directory.mkdir()
    write(run, directory)
    return msgspec.json.decode(msgspec.json.encode(state_of(run, recipe, 1.5)), type=TrainingState)


def losses(run: TrainingRun) -> list[float]:
    """The summed loss of every step from here to the end."""
    each: list[float] = []
    while not run.advance(Watcher(), 1e-9):
        run.read_losses()
        each.append(run.reached.losses[-1][0])
    run.read_losses()
    return [*each, run.reached.losses[-1][0]]


def weights(run: TrainingRun) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in run.parameters.values()]


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("step", [1, 7])
def test_a_resumed_run_has_the_losses_and_weights_of_one_that_was_never_stopped(
    llama: LoadedModel, tmp_path: Path, method: Method, packing: bool, step: int
) -> None:
    straight, _ = begin(llama, method, packing=packing)
    expected = losses(straight)

    first, recipe = begin(llama, method, packing=packing)
    state = stop_and_save(first, recipe, step, tmp_path / "checkpoint")
    second, _ = begin(llama, method, packing=packing)
    restore(second, recipe, state, tmp_path / "checkpoint")

    assert second.reached.step == step
    assert losses(second) == expected[step:]
    assert weights(second) == weights(straight)
    assert second.trained().train_loss == straight.trained().train_loss
    assert second.trained().tokens == straight.trained().tokens
    assert second.trained().steps == STEPS


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_what_no_loss_reaches_has_no_moments_and_a_run_goes_on_without(tmp_path: Path, method: Method) -> None:
    seeing = load_tiny(tmp_path / "base", "gemma3")  # of which text trains a part
    straight, _ = begin(seeing, method)
    straight.run(Watcher())

    first, recipe = begin(seeing, method)
    state = stop_and_save(first, recipe, 2, tmp_path / "checkpoint")
    second, _ = begin(seeing, method)
    restore(second, recipe, state, tmp_path / "checkpoint")
    second.run(Watcher())

    assert 0 < len(second.optimizer.state_dict()["state"]) < len(second.parameters)
    assert weights(second) == weights(straight)


def test_a_run_may_be_stopped_and_resumed_again_and_again(llama: LoadedModel, tmp_path: Path) -> None:
    straight, _ = begin(llama, LORA)
    straight.run(Watcher())

    run, recipe = begin(llama, LORA)
    for step in (2, 3, 9):
        directory = tmp_path / str(step)
        state = stop_and_save(run, recipe, step, directory)
        run, _ = begin(llama, LORA)
        restore(run, recipe, state, directory)
    run.run(Watcher())

    assert weights(run) == weights(straight)
    assert run.trained().train_loss == straight.trained().train_loss


def test_a_checkpoint_of_the_last_step_is_the_end(llama: LoadedModel, tmp_path: Path) -> None:
    first, recipe = begin(llama, LORA)
    first.run(Watcher())
    (tmp_path / "checkpoint").mkdir()
    write(first, tmp_path / "checkpoint")
    second, _ = begin(llama, LORA)
    restore(second, recipe, state_of(first, recipe, 0.0), tmp_path / "checkpoint")

    assert second.advance(Watcher(), 1e-9)
    assert second.trained() == first.trained()


def test_the_progress_goes_on_at_the_resumed_step(llama: LoadedModel, tmp_path: Path) -> None:
    first, recipe = begin(llama, LORA)
    state = stop_and_save(first, recipe, STEPS - 1, tmp_path / "checkpoint")
    second, _ = begin(llama, LORA)
    restore(second, recipe, state, tmp_path / "checkpoint")
    watcher = Watcher()
    second.run(watcher)

    assert [progress.step for progress in watcher.steps] == [STEPS]
    assert second.reached.train_s > state.train_s > 0


@pytest.mark.parametrize(
    "change",
    [
        {"dataset_sha256": "other"},
        {"model_sha256": "other"},
        {"method": Method(rank=5)},
        {"plan": "longer"},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_recipe_is_refused(
    llama: LoadedModel, tmp_path: Path, change: dict[str, object]
) -> None:
    first, recipe = begin(llama, LORA)
    state = stop_and_save(first, recipe, 2, tmp_path / "checkpoint")
    if "plan" in change:
        change = {"plan": replace(recipe.plan, steps=STEPS + 1)}
    second, _ = begin(llama, LORA)

    with pytest.raises(CheckpointUnusable, match="the data, the model or the plan"):
        restore(second, msgspec.structs.replace(recipe, **change), state, tmp_path / "checkpoint")
    assert second.reached.step == 0


@pytest.mark.parametrize("name", [WEIGHTS_NAME, OPTIMIZER_NAME])
@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_damaged_checkpoint_is_refused_and_leaves_the_run_at_its_beginning(
    llama: LoadedModel, tmp_path: Path, name: str, damage: str
) -> None:
    first, recipe = begin(llama, LORA)
    directory = tmp_path / "checkpoint"
    state = stop_and_save(first, recipe, 2, directory)
    path = directory / name
    match damage:
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:-8])
        case _:
            tensors = load_file(path)
            tensors.pop(next(iter(tensors)))
            save_file(tensors, path)
    second, _ = begin(llama, LORA)
    before = weights(second)

    with pytest.raises(CheckpointUnusable):
        restore(second, recipe, state, directory)
    assert weights(second) == before
    assert second.optimizer.state_dict()["state"] == {}


def test_nothing_in_a_checkpoint_is_pickled(llama: LoadedModel, tmp_path: Path) -> None:
    first, recipe = begin(llama, FULL)
    stop_and_save(first, recipe, 1, tmp_path / "checkpoint")
    assert {path.suffix for path in (tmp_path / "checkpoint").iterdir()} == {".safetensors"}


def test_a_disk_that_takes_no_checkpoint_is_an_error_of_the_disk(llama: LoadedModel, tmp_path: Path) -> None:
    run, _ = begin(llama, LORA)
    run.run(Watcher())

    with pytest.raises(OSError, match="os error") as caught:
        write(run, tmp_path / "missing")

    assert caught.value.errno == errno.ENOENT


def test_other_errors_of_safetensors_stay_what_they_are() -> None:
    with pytest.raises(SafetensorError), disk_errors():
        raise SafetensorError("Error while deserializing header: header too large")
    with pytest.raises(OSError, match="No space left") as caught, disk_errors():
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert caught.value.errno == errno.ENOSPC
