"""Samples: what of an example is trained, which ones are refused, and how little memory many of them take."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DatasetInvalid, Unsupported
from schemas.requests import Dataset, Message, Record
from tests.tiny_models import WINDOW_TOKENS
from tests.unit.workers.tuning import SUMS, load_tiny, samples_of
from workers.datasets import Datasets
from workers.models import LoadedModel
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


def _read(model: LoadedModel, records: tuple[Record, ...], max_length: int | None) -> None:
    read_samples(Datasets([]), Dataset(records=records), model, max_length, lambda: None)
