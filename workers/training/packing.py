"""Whether a model keeps the samples of a packed row apart, found out by trying."""

from typing import Final

import torch
from transformers import PreTrainedModel

from workers.models.loading import embedding_rows

#: Tokens of the two samples of the trial.
TRIAL_TOKENS: Final = 8
#: How far the logits may differ, relative to the largest: rounding, no leak.
TOLERANCES: Final = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}


@torch.no_grad()
def keeps_samples_apart(module: PreTrainedModel) -> bool:
    """Whether a sample's logits are the same behind another one in its row as alone.

    Models differ in whether they read sample bounds from the positions (attention does in transformers;
    recurrent layers and position biases do not), and configurations say nothing about it.
    """
    rows = embedding_rows(module)
    ids = torch.arange(2 * TRIAL_TOKENS, device=module.device)[None] * 7 % rows
    positions = torch.arange(2 * TRIAL_TOKENS, device=module.device)[None] % TRIAL_TOKENS
    together = module(input_ids=ids, position_ids=positions, use_cache=False).logits[:, TRIAL_TOKENS:]
    alone = module(input_ids=ids[:, TRIAL_TOKENS:], use_cache=False).logits
    difference = (together - alone).abs().max() / alone.abs().max()
    return bool(difference <= TOLERANCES.get(alone.dtype, 0.0))
