"""How likely a model finds given completions: forward passes over whole examples, without decoding."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from workers.models import LoadedModel
from workers.models.room import room_for

#: Tokens of one forward pass, padding included.
BATCH_TOKENS: Final = 4_096
#: Logits of one forward pass, in numbers: 128 MiB of float32, whatever the vocabulary.
BATCH_LOGITS: Final = 2**25


@dataclass(frozen=True, slots=True)
class Loss:
    """The negative log-likelihood of a completion: its sum in nats, and over how many tokens."""

    nats: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt of at least one token, and a completion whose tokens are scored."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


@torch.no_grad()
def completion_losses(model: LoadedModel, pairs: Sequence[Pair], check: Callable[[], None]) -> list[Loss]:
    """The loss of each pair's completion given its prompt, in the pairs' order.

    Blocking; ``check`` is called before each batch, and what it raises ends the scoring.

    Raises:
        OutOfMemory: the device's memory does not suffice (retryable).
    """
    losses: list[Loss] = [Loss(0.0, 0)] * len(pairs)
    vocabulary = model.module.config.get_text_config().vocab_size
    for batch in _batches(pairs, min(BATCH_TOKENS, BATCH_LOGITS // vocabulary)):
        check()
        with room_for(f"scoring {len(batch)} answers at once", "Use a worker with more memory."):
            scored = _batch_losses(model, [pairs[index] for index in batch])
        for index, loss in zip(batch, scored, strict=True):
            losses[index] = loss
    return losses


def _batches(pairs: Sequence[Pair], tokens: int) -> Iterator[list[int]]:
    """Indices of pairs of similar length, the longest first, ``tokens`` a batch or a single pair."""
    ordered = sorted(range(len(pairs)), key=lambda index: len(pairs[index]), reverse=True)
    while ordered:
        rows = max(1, tokens // len(pairs[ordered[0]]))
        yield ordered[:rows]
        ordered = ordered[rows:]


def _batch_losses(model: LoadedModel, pairs: list[Pair]) -> list[Loss]:
    # Padded at the right, so that no token sees padding: attention is causal, and no mask is needed.
    width = max(map(len, pairs))
    ids = torch.tensor(
        [(*pair.prompt_ids, *pair.completion_ids) + (0,) * (width - len(pair)) for pair in pairs],
        device=model.device,
    )
    module: Any = model.module
    logits: Tensor = module(input_ids=ids, use_cache=False).logits
    columns = torch.arange(1, width, device=model.device)
    first = torch.tensor([[len(pair.prompt_ids)] for pair in pairs], device=model.device)
    last = torch.tensor([[len(pair)] for pair in pairs], device=model.device)
    scored = (columns >= first) & (columns < last)  # [rows, width - 1]: the targets that are a completion's
    nats = functional.cross_entropy(logits[:, :-1][scored].float(), ids[:, 1:][scored], reduction="none")
    sums = torch.zeros(len(pairs), dtype=torch.double, device=model.device)
    sums.index_add_(0, scored.nonzero()[:, 0], nats.double())
    return [Loss(total, len(pair.completion_ids)) for pair, total in zip(pairs, sums.tolist(), strict=True)]
