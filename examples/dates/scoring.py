"""Exact match by greedy decoding, with nothing but transformers: the figure that the example is judged by."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from schemas.requests import Record

#: A date has 10 characters; a model that writes more bytes is wrong already.
ANSWER_TOKENS = 16
BATCH_ROWS = 100


def exact_match(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: Sequence[Record]) -> float:
    """The share of ``records`` whose completion the model writes exactly, and then ends. 0 to 1."""
    ordered = sorted(records, key=lambda record: len(record.prompt or ""))
    right = 0
    for first in range(0, len(ordered), BATCH_ROWS):
        batch = ordered[first : first + BATCH_ROWS]
        answers = answer(module, tokenizer, [record.prompt or "" for record in batch])
        right += sum(text == record.completion for text, record in zip(answers, batch, strict=True))
    return right / len(records)


@torch.no_grad()
def answer(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[str]:
    """The model's greedy answer to each prompt, up to the end token."""
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
    output = module.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)  # type: ignore[operator]
    return tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
