"""Samples, plans and batches: what is trained on, in which order, and what a token may see."""

import itertools
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from schemas.errors import DatasetInvalid, Unsupported
from schemas.requests import Dataset, Hyperparameters, Message, Record
from tests.tiny_models import ARCHITECTURES, VOCABULARY, WINDOW_TOKENS
from tests.unit.workers.tuning import SUMS, load_tiny, samples_of
from workers.datasets import Datasets
from workers.models import LoadedModel
from workers.training.batches import PASS_TOKENS, Batch, packed, padded
from workers.training.packing import keeps_samples_apart
from workers.training.plan import Plan
from workers.training.samples import Sample, SampleTable, read_samples


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(tmp_path_factory.mktemp("llama"))


def test_a_sample_is_prompt_completion_and_end_and_the_prompt_is_not_trained(llama: LoadedModel) -> None:
    (sample,) = samples_of(llama, [Record("2+2=", "4")])

    assert llama.tokenizer.decode(sample.ids.tolist()) == "2+2=4<eos>"
    assert (len(sample), sample.prompt_tokens, sample.trained_tokens) == (6, 4, 2)


def test_an_empty_completion_trains_the_end_alone(llama: LoadedModel) -> None:
    (sample,) = samples_of(llama, [Record("2+2=", "")])

    assert sample.trained_tokens == 1


def test_of_a_conversation_the_last_answer_alone_is_trained(llama: LoadedModel) -> None:
    messages = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))
    (sample,) = samples_of(llama, [Record(messages=messages)])

    trained = sample.ids[sample.prompt_tokens :].tolist()
    assert llama.tokenizer.decode(trained) == "d<eos>"


@pytest.mark.parametrize(("max_length", "reason"), [(None, "limit is 128"), (8, "limit is 8. .*max_length")])
def test_an_example_that_is_too_long_is_named_with_its_line_and_the_limit(
    llama: LoadedModel, max_length: int | None, reason: str
) -> None:
    long = Record("x" * 150, "y")
    with pytest.raises(DatasetInvalid, match=f"Line 2 .*it has 152 tokens .*{reason}"):
        _read(llama, (Record("a", "b"), long), max_length)


def test_a_length_beyond_the_window_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="max_length is 129 tokens; the window of model llama is 128"):
        _read(llama, SUMS, WINDOW_TOKENS + 1)


def test_a_conversation_that_the_template_refuses_is_named_with_its_line(tmp_path: Path) -> None:
    model = load_tiny(tmp_path)
    model.tokenizer.chat_template = "{{ raise_exception('no') }}"
    messages = (Message("user", "a"), Message("assistant", "b"))

    with pytest.raises(DatasetInvalid, match=r"Line 2 .*template refuses"):
        _read(model, (Record("a", "b"), Record(messages=messages)), None)


def test_samples_in_a_table_are_what_was_put_there() -> None:
    samples = [Sample(np.arange(start, start + 3 + start), 1 + start) for start in range(4)]
    table = SampleTable()
    for line, sample in enumerate(samples, start=1):
        table.add(sample, line)

    assert len(table) == 4
    for found, expected in zip([*table, table[-1], *table[1:3]], [*samples, samples[3], *samples[1:3]], strict=True):
        assert found.ids.dtype == np.int64
        assert (found.ids.tolist(), found.prompt_tokens) == (expected.ids.tolist(), expected.prompt_tokens)
    with pytest.raises(IndexError):
        table[4]


def test_a_large_dataset_takes_little_more_memory_than_its_tokens() -> None:
    sample = Sample(np.ones(16, dtype=np.int64), 8)
    tracemalloc.start()
    try:
        table = SampleTable()
        for line in range(10_000):
            table.add(sample, line)
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert used_bytes < 1.2 * 10_000 * (16 * 4 + 12)


def test_examples_beyond_the_limit_are_refused_at_their_line_with_the_way_out() -> None:
    sample = Sample(np.ones(6, dtype=np.int64), 2)
    table = SampleTable(most_samples=2, most_tokens=15)
    table.add(sample, 1)
    table.add(sample, 3)

    with pytest.raises(DatasetInvalid, match=r"^Line 4 .* one more than the 2 examples .* limit\. Split the dataset"):
        table.add(sample, 4)


def test_tokens_beyond_the_limit_are_refused_at_their_line_with_their_number() -> None:
    sample = Sample(np.ones(6, dtype=np.int64), 2)
    table = SampleTable(most_samples=10, most_tokens=15)
    table.add(sample, 1)
    table.add(sample, 2)

    with pytest.raises(DatasetInvalid, match=r"^Line 3 .* have 18 tokens; the limit .* is 15\. Split the dataset"):
        table.add(sample, 3)


def test_a_model_without_an_end_token_is_not_tuned(tmp_path: Path) -> None:
    model = load_tiny(tmp_path)
    model.tokenizer.eos_token = None

    with pytest.raises(Unsupported, match="no end token"):
        samples_of(model)


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


def _read(model: LoadedModel, records: tuple[Record, ...], max_length: int | None) -> None:
    read_samples(Datasets([]), Dataset(records=records), model, max_length, lambda: None)


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
