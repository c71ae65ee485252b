"""Calling a causal language model with what its architecture takes."""

import inspect
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, LinearAttentionCacheLayerMixin

from schemas.errors import Unsupported
from workers.engine.kvcache import RowCache


class Forward:
    """The next token's logits, for any Hugging Face causal language model with attention.

    Raises:
        Unsupported: the model keeps a recurrent state, whose rows can't be padded (final).
    """

    def __init__(self, module: PreTrainedModel) -> None:
        _check_attention(module)
        self._module: Final[Any] = module
        takes = inspect.signature(module.forward).parameters
        self._takes_positions: Final = "position_ids" in takes
        self._takes_count: Final = "logits_to_keep" in takes

    def __call__(self, ids: Tensor, padding: Tensor | None, positions: Tensor, cache: RowCache) -> Tensor:
        """Append ``ids`` [rows, tokens] to the cache; returns the last token's logits [rows, vocabulary].

        ``padding`` is the mask over cached and new columns, 1 where there is a token, or None where
        every column is one; ``positions`` is [rows, tokens].
        """
        arguments: dict[str, Tensor | int] = {}
        if self._takes_positions:
            arguments["position_ids"] = positions
        if self._takes_count:
            arguments["logits_to_keep"] = 1
        output = self._module(input_ids=ids, attention_mask=padding, past_key_values=cache, use_cache=True, **arguments)
        logits: Tensor = output.logits
        return logits[:, -1]


def _check_attention(module: PreTrainedModel) -> None:
    recurrent = any(
        isinstance(layer, LinearAttentionCacheLayerMixin) or not isinstance(layer, DynamicLayer)
        for layer in DynamicCache(config=module.config).layers
    )
    if recurrent or getattr(module, "_is_stateful", False):
        raise Unsupported(
            f"A model of type {module.config.model_type!r} keeps a recurrent state, which batched generation "
            "does not handle. Use a model whose layers are all attention."
        )


def prompt_batch(prompts: list[tuple[int, ...]], device: torch.device) -> tuple[Tensor, Tensor | None, Tensor]:
    """Token ids, padding mask and positions of prompts aligned at their right end, each [rows, width]."""
    width = max(map(len, prompts))
    ids = torch.tensor([(0,) * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device).unsqueeze(-1)
    positions = torch.arange(width, device=device) - (width - lengths)
    padding = (positions >= 0).long() if any(len(prompt) < width for prompt in prompts) else None
    return ids, padding, positions.clamp_(min=0)
