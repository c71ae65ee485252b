"""Tiny random models as the model cache lends them, whose answers vary."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.tiny_models import VOCABULARY, WINDOW_TOKENS, byte_tokenizer, tiny_module
from workers.models import LoadedModel, ModelRef

EOS: Final = 2
#: Gemma 3 has layers with an attention window, here of 8 tokens, between those that see everything.
ARCHITECTURES: Final = ("llama", "gpt2", "qwen2", "gemma", "gemma3_text")


@cache
def tiny_loaded(architecture: str = "llama", seed: int = 0) -> LoadedModel:
    """One model an architecture and seed for all tests."""
    module = _windowed_module(seed) if architecture == "gemma3_text" else tiny_module(architecture, seed)
    return loaded(module, key=f"{architecture}-{seed}")


def loaded(module: PreTrainedModel, key: str) -> LoadedModel:
    """The module as the model cache would lend it, with weights large enough for varied answers."""
    generator = torch.Generator().manual_seed(len(key))
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.25, generator=generator)
    return LoadedModel(
        ref=ModelRef(key),
        key=key,
        module=module,
        base_module=module,
        base_dir=Path(),
        adapter_dir=None,
        tokenizer=byte_tokenizer(),
        window=WINDOW_TOKENS,
        eos_ids=frozenset({EOS}),
        size_bytes=0,
    )


def alone(model: LoadedModel, prompt_ids: Sequence[int], max_tokens: int) -> list[int]:
    """What transformers' own greedy ``generate`` answers to one prompt, without the end token."""
    generate: Any = model.module.generate
    mask = torch.ones(1, len(prompt_ids), dtype=torch.long)
    output: torch.Tensor = generate(
        torch.tensor([list(prompt_ids)]), attention_mask=mask, do_sample=False, max_new_tokens=max_tokens
    )
    new: list[int] = output[0, len(prompt_ids) :].tolist()
    return new[: new.index(EOS)] if EOS in new else new


def _windowed_module(seed: int) -> PreTrainedModel:
    config = AutoConfig.for_model(
        "gemma3_text",
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=WINDOW_TOKENS,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    assert isinstance(module, PreTrainedModel)
    nn.Module.eval(module)
    return module
