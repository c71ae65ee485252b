"""Losses of completions against the model's own loss, one example at a time."""

from random import Random
from typing import Any

import pytest
import torch

from schemas.errors import JobCancelled
from tests.unit.workers.tiny_loaded import ARCHITECTURES, tiny_loaded
from workers.engine import losses
from workers.engine.losses import Pair, completion_losses
from workers.models import LoadedModel


def pair(prompt: int, completion: int, seed: int = 0) -> Pair:
    dice = Random(f"{prompt}/{completion}/{seed}")
    ids = tuple(dice.randrange(3, 259) for _ in range(prompt + completion))
    return Pair(ids[:prompt], ids[prompt:])


def mean_loss_alone(model: LoadedModel, one: Pair) -> float:
    module: Any = model.module
    ids = torch.tensor([one.prompt_ids + one.completion_ids])
    labels = ids.clone()
    labels[:, : len(one.prompt_ids)] = -100
    with torch.no_grad():
        return float(module(input_ids=ids, labels=labels).loss)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_loss_does_not_depend_on_what_shares_the_batch(architecture: str) -> None:
    model = tiny_loaded(architecture)
    pairs = [pair(prompt, completion) for prompt in (1, 9, 40) for completion in (1, 2, 30)]
    for one, loss in zip(pairs, completion_losses(model, pairs, lambda: None), strict=True):
        assert loss.tokens == len(one.completion_ids)
        assert loss.nats / loss.tokens == pytest.approx(mean_loss_alone(model, one), rel=1e-4)


def test_an_empty_completion_has_no_loss() -> None:
    [loss] = completion_losses(tiny_loaded(), [pair(4, 0)], lambda: None)
    assert (loss.nats, loss.tokens) == (0.0, 0)


def test_nothing_to_score_is_no_error() -> None:
    assert completion_losses(tiny_loaded(), [], lambda: None) == []


def test_a_stopped_job_is_seen_before_each_batch() -> None:
    pairs = [pair(60, 60, seed) for seed in range(2 * losses.BATCH_TOKENS // 120)]
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise JobCancelled("enough")

    with pytest.raises(JobCancelled):
        completion_losses(tiny_loaded(), pairs, check)
