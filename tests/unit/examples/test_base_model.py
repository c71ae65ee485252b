"""The shipped base model: its size, its tokenizer, and that it does not know what it will be tuned on."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from examples.dates.scoring import exact_match
from examples.models.tokenizer import BOS_ID, EOS_ID, PAD_ID, byte_letters
from schemas.requests import FineTuneRequest, Record

EXAMPLES = Path(__file__).parents[3] / "examples"
DIRECTORY = EXAMPLES / "models/example-base"
DATES = EXAMPLES / "dates"
WEIGHTS = DIRECTORY / "model.safetensors"


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    loaded = AutoModelForCausalLM.from_pretrained(DIRECTORY)
    assert isinstance(loaded, PreTrainedModel)
    return loaded


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    loaded = AutoTokenizer.from_pretrained(DIRECTORY)
    assert isinstance(loaded, PreTrainedTokenizerBase)
    return loaded


def test_the_weights_are_at_most_3_million_and_8_megabytes(model: PreTrainedModel) -> None:
    assert model.num_parameters() <= 3_000_000
    assert WEIGHTS.stat().st_size <= 8_000_000


def test_the_weights_are_kept_in_the_precision_of_training(model: PreTrainedModel) -> None:
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_weights_have_the_digest_of_the_card_and_of_their_record() -> None:
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert digest in (DIRECTORY / "README.md").read_text()
    assert digest == json.loads((DIRECTORY / "pretraining.json").read_bytes())["sha256"]


def test_the_base_can_not_do_the_task_that_it_will_be_tuned_on(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    lines = (DATES / "test.jsonl").read_bytes().splitlines()[:200]
    records = [msgspec.json.decode(line, type=Record) for line in lines]
    assert exact_match(model, tokenizer, records) <= 0.2


def test_the_recommended_request_is_valid() -> None:
    request = msgspec.json.decode((DATES / "finetune.json").read_bytes(), type=FineTuneRequest)
    assert (request.model, request.dataset.uri) == ("example-base", "dates/train.jsonl")


def test_the_tokenizer_is_a_fast_one_with_the_model_s_special_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert tokenizer.is_fast
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (PAD_ID, BOS_ID, EOS_ID)
    assert (model.config.bos_token_id, model.config.eos_token_id) == (BOS_ID, EOS_ID)
    assert len(tokenizer) == model.config.vocab_size


@given(text=st.text())
def test_any_text_is_its_bytes_and_comes_back_from_them(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert bytes(ids) == text.encode()
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    "text", ["14 марта 2023 г.", "2023年3月14日(火)", "Złoty październik", "مارس", "🗓️", " \t\n\x00"]
)
def test_a_script_comes_back_as_it_was(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text).input_ids
    assert ids[0] == BOS_ID
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_special_token_s_name_in_a_prompt_is_text(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer("<eos><pad><bos>", add_special_tokens=False).input_ids == list(b"<eos><pad><bos>")


def test_every_byte_has_a_letter_of_its_own() -> None:
    assert len(set(byte_letters())) == 256
