"""Tune the example's base model as ``finetune.json`` asks, with no server: ``python -m examples.dates.recipe``.

The same training as a worker's, in this process and on one thread; prints exact match on the test set before
and after, and how long it took. Options: ``--steps N`` to train shorter or longer, ``--threads N``.
"""

import argparse
import pathlib

import msgspec
import torch
from msgspec import structs

from examples.dates.scoring import exact_match
from schemas.requests import FineTuneRequest, Record
from workers.datasets import Datasets
from workers.models import LoadedModel
from workers.models.loading import load_base
from workers.progress import TrainStep
from workers.training import Plan, TrainingRun, Tuned, prepare, read_samples

HERE = pathlib.Path(__file__).parent
EXAMPLES = HERE.parent
MODELS = EXAMPLES / "models"
REPORT_STEPS = 50


class Printer:
    """Prints a line now and then; nothing stops the run."""

    def __init__(self) -> None:
        self._due = 0

    def check(self) -> None:
        """Go on."""

    def report(self, progress: TrainStep) -> None:
        """Print the step, its loss in nats a token, and the time left."""
        if progress.step >= self._due:
            self._due += REPORT_STEPS
            print(f"step {progress.step:4} loss {progress.loss:.3f}, {progress.remaining_s:.0f} s left", flush=True)


def main() -> None:
    """Score, tune, score again."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    request = _request(arguments.steps)
    model = load_base(request.model, request.model, MODELS / request.model, torch.device("cpu"))
    test = [msgspec.json.decode(line, type=Record) for line in (HERE / "test.jsonl").read_bytes().splitlines()]
    before = exact_match(model.module, model.tokenizer, test)
    print(f"base: exact match {before:.3f} of {len(test)}", flush=True)
    tuned, train_s = tune(request, model)
    after = exact_match(tuned.module, model.tokenizer, test)
    print(f"tuned: exact match {after:.3f} of {len(test)}, after {train_s:.1f} s on {arguments.threads} thread(s)")


def tune(request: FineTuneRequest, model: LoadedModel) -> tuple[Tuned, float]:
    """Train as a worker would; return the outcome and the seconds of training."""
    printer = Printer()
    hyper = request.hyperparameters
    samples = read_samples(Datasets([EXAMPLES]), request.dataset, model, hyper.max_length, printer.check)
    tuned = prepare(model, request.method, request.seed)
    plan = Plan.of(hyper, len(samples.items), request.seed)
    return tuned, TrainingRun(tuned, samples.items, plan).run(printer).train_s


def _request(steps: int | None) -> FineTuneRequest:
    request = msgspec.json.decode((HERE / "finetune.json").read_bytes(), type=FineTuneRequest)
    if steps is None:
        return request
    return structs.replace(request, hyperparameters=structs.replace(request.hyperparameters, max_steps=steps))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tune the example's base model on dates.")
    parser.add_argument("--steps", type=int, help="instead of what finetune.json says")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
