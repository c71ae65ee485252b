"""Plans and batches: in which order examples are trained on, and what a token may see."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from schemas.requests import Hyperparameters, Record
from tests.tiny_models import ARCHITECTURES, VOCABULARY
from tests.unit.workers.tuning import load_tiny, samples_of
from workers.models import LoadedModel
from workers.training.batches import PASS_TOKENS, Batch, packed, padded
from workers.training.packing import keeps_samples_apart
from workers.training.plan import Plan
from workers.training.samples import Sample


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize(
    ("hyper", "steps", "draws"),
    [
        (Hyperparameters(batch_size=16), 7, 100),
        (Hyperparameters(epochs=2.5, batch_size=16), 16, 250),
        (Hyperparameters(max_steps=3, batch_size=64), 3, 192),
        (Hyperparameters(epochs=0.001, batch_size=16), 1, 1),
    ],
)
def test_a_plan_has_as_many_steps_as_was_asked_for(hyper: Hyperparameters, steps: int, draws: int) -> None:
    plan = Plan.of(hyper, 100, seed=0)

    assert plan.steps == steps
    assert sum(len(plan.batch(step)) for step in range(steps)) == draws


def test_each_epoch_takes_every_example_once_in_an_order_of_its_own() -> None:
    plan = Plan.of(Hyperparameters(epochs=2, batch_size=7), 50, seed=3)

    drawn = list(itertools.chain.from_iterable(plan.batch(step) for step in range(plan.steps)))

    assert sorted(drawn[:50]) == sorted(drawn[50:]) == list(range(50))
    assert drawn[:50] != drawn[50:]
    assert plan.batch(5) == Plan.of(Hyperparameters(epochs=2, batch_size=7), 50, seed=3).batch(5)
    assert plan.batch(5) != Plan.of(Hyperparameters(epochs=2, batch_size=7), 50, seed=4).batch(5)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.8536, 0.5, 0.1464]),
    ],
)
def test_the_learning_rate_warms_up_and_then_follows_its_schedule(schedule: str, rates: list[float]) -> None:
    hyper = Hyperparameters(max_steps=6, warmup_steps=2, learning_rate=1, schedule=schedule)  # type: ignore[arg-type]
    plan = Plan.of(hyper, 10, seed=0)

    assert [plan.learning_rate_at(step) for step in range(6)] == pytest.approx(rates, abs=1e-4)


def test_packing_puts_every_sample_into_a_row_once(llama: LoadedModel) -> None:
    samples = samples_of(llama)

    batches = list(packed(samples))

    # As many trained tokens, the same ones, in much fewer rows.
    assert _trained(batches) == sorted(token for s in samples for token in s.ids[s.prompt_tokens :].tolist())
    assert sum(batch.input_ids.shape[0] for batch in batches) < len(samples) / 5


def test_padded_rows_of_a_batch_are_of_about_the_same_length(llama: LoadedModel) -> None:
    samples = samples_of(llama, [Record("x" * length, "y") for length in (3, 100, 4, 90, 5, 3)])

    assert [tuple(batch.input_ids.shape) for batch in padded(samples)] == [(2, 102), (4, 7)]


def test_a_pass_is_bounded_however_large_the_batch_is() -> None:
    samples = [Sample(np.ones(100, dtype=np.int64), 50)] * 200

    for batches in (list(packed(samples)), list(padded(samples))):
        assert sum(batch.input_ids.shape[0] for batch in batches) == 200
        assert all(batch.input_ids.numel() <= PASS_TOKENS for batch in batches)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_packed_sample_has_the_logits_that_it_has_alone(tmp_path: Path, architecture: str) -> None:
    model = load_tiny(tmp_path, architecture)
    samples = samples_of(model)
    # The trial decides in training; all four of these pass it, GPT-2 with its learnt positions too.
    assert keeps_samples_apart(model.module)

    together = dict(itertools.chain.from_iterable(_packed_logits(model, batch) for batch in packed(samples)))

    for sample in samples:
        alone = _forward(model, torch.from_numpy(sample.ids)[None], None)[0]
        torch.testing.assert_close(together[tuple(sample.ids.tolist())], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_does_not_change_a_sample_s_logits(tmp_path: Path, architecture: str) -> None:
    model = load_tiny(tmp_path, architecture)
    samples = sorted(samples_of(model), key=len, reverse=True)
    (batch,) = padded(samples)

    together = _forward(model, batch.input_ids, None)

    for sample, logits in zip(samples, together, strict=True):
        alone = _forward(model, torch.from_numpy(sample.ids)[None], None)[0]
        torch.testing.assert_close(logits[: len(sample)], alone, atol=1e-5, rtol=1e-5)


def test_a_model_that_mixes_the_samples_of_a_row_is_found_out() -> None:
    # Bloom's position bias comes from the mask, so it does not read where a sample begins.
    config = AutoConfig.for_model("bloom", vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)
    module: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    nn.Module.eval(module)

    assert not keeps_samples_apart(module)


def _trained(batches: Iterable[Batch]) -> list[int]:
    return sorted(token for batch in batches for token in batch.targets.tolist())


def _packed_logits(model: LoadedModel, batch: Batch) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
    """Each sample of a packed batch with its logits; a sample begins where the position is 0."""
    assert batch.position_ids is not None
    logits = _forward(model, batch.input_ids, batch.position_ids)
    for ids, positions, row in zip(batch.input_ids, batch.position_ids, logits, strict=True):
        starts = [index for index, position in enumerate(positions.tolist()) if position == 0]
        for start, end in itertools.pairwise([*starts, len(ids)]):
            yield tuple(ids[start:end].tolist()), row[start:end]


@torch.no_grad()
def _forward(model: LoadedModel, ids: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    logits: torch.Tensor = model.module(input_ids=ids, position_ids=positions, use_cache=False).logits
    return logits
