"""How well a model does its exercises, task by task."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM

from examples.models.batches import IGNORED, tensors
from examples.models.tasks import Exercise

BATCH_ROWS = 100


def marks(model: LlamaForCausalLM, exercises: Sequence[Exercise]) -> dict[str, float]:
    """The share of each task's exercises that a greedy answer gets right to the last byte, 0 to 1."""
    right: dict[str, list[bool]] = defaultdict(list)
    for first in range(0, len(exercises), BATCH_ROWS):
        batch = exercises[first : first + BATCH_ROWS]
        for exercise, is_right in zip(batch, _are_right(model, batch), strict=True):
            right[exercise.prompt.split()[0]].append(is_right)
    return {task: round(sum(answers) / len(answers), 3) for task, answers in sorted(right.items())}


@torch.no_grad()
def _are_right(model: LlamaForCausalLM, exercises: Sequence[Exercise]) -> list[bool]:
    """Read the answers in one pass: a greedy answer is right where each of its tokens is the likeliest."""
    inputs, labels = tensors([(each.prompt, each.completion) for each in exercises])
    guesses = model(input_ids=inputs, use_cache=False).logits[:, :-1].argmax(-1)
    expected = labels[:, 1:]
    right: torch.Tensor = ((guesses == expected) | (expected == IGNORED)).all(dim=1)
    return [bool(each) for each in right]
