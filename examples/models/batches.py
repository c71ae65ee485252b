"""Texts to tensors: prompt and completion tokenised apart, loss on the completion alone."""

import random
from collections.abc import Iterator, Sequence

import torch

from examples.models.tokenizer import BOS_ID, EOS_ID, PAD_ID

#: What the loss of ``transformers`` leaves out.
IGNORED = -100

#: Batches drawn together and grouped by length: padding falls to a few percent, and the batches
#: still come in random order.
BATCHES_PER_POOL = 64

Pair = tuple[str, str]
Batch = tuple[torch.Tensor, torch.Tensor]


def grouped_batches(pairs: Sequence[Pair], size: int, rng: random.Random) -> Iterator[Batch]:
    """Yield ``pairs`` once as (tokens, labels), each [size, longest], neighbours in length."""
    pools = range(0, len(pairs), size * BATCHES_PER_POOL)
    for start in pools:
        pool = sorted(pairs[start : start + size * BATCHES_PER_POOL], key=_length)
        batches = [pool[first : first + size] for first in range(0, len(pool), size)]
        rng.shuffle(batches)
        yield from map(tensors, batches)


def tensors(pairs: Sequence[Pair]) -> Batch:
    """Pad on the right to the longest pair: causal attention needs no mask for that."""
    rows = [(list(prompt.encode()), list(completion.encode())) for prompt, completion in pairs]
    width = max(len(prompt) + len(completion) for prompt, completion in rows) + 2
    tokens = torch.full((len(rows), width), PAD_ID)
    labels = torch.full((len(rows), width), IGNORED)
    for index, (prompt, completion) in enumerate(rows):
        row = torch.tensor([BOS_ID, *prompt, *completion, EOS_ID])
        tokens[index, : len(row)] = row
        labels[index, len(prompt) + 1 : len(row)] = row[len(prompt) + 1 :]
    return tokens, labels


def _length(pair: Pair) -> int:
    return sum(len(text.encode()) for text in pair)
