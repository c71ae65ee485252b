"""Random models of a few thousand parameters and a byte-level tokenizer, made in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

Architecture = Literal["llama", "gpt2", "qwen2", "gemma", "gemma3_text"]
END = 256
VOCABULARY = 257
WINDOW = 256


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, and an end token."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner = Tokenizer(models.BPE({char: i for i, char in enumerate(sorted(alphabet))} | {"<end>": END}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, eos_token="<end>", pad_token="<end>"
    )


def random_module(architecture: Architecture, seed: int = 0) -> PreTrainedModel:
    """A model in evaluation mode, float32, on the CPU; its weights are large enough for varied outputs."""
    torch.manual_seed(seed)
    sizes = _SIZES | _WINDOWED if architecture == "gemma3_text" else _SIZES
    build: Any = AutoModelForCausalLM.from_config
    module = build(AutoConfig.for_model(architecture, **sizes))
    for parameter in module.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    assert isinstance(module, PreTrainedModel)
    module.eval()  # type: ignore[no-untyped-call]
    return module


#: One name an idea, whatever an architecture calls it; names that it does not know do nothing.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": WINDOW,
    "bos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": END,
}
#: A layer with a window of 8 tokens, and one that sees everything.
_WINDOWED: dict[str, Any] = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}


@dataclass(frozen=True, eq=False)
class TinyModel:
    """What the engine needs of a loaded model."""

    key: str
    module: PreTrainedModel
    eos_ids: frozenset[int] = frozenset({END})
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tokenizer: PreTrainedTokenizerFast = field(default_factory=byte_tokenizer)

    def decode(self, token_ids: Sequence[int], /) -> str:
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    def alone(self, prompt_ids: Sequence[int], max_tokens: int) -> list[int]:
        """What transformers' own greedy ``generate`` answers, without the end token."""
        generate: Any = self.module.generate
        output: torch.Tensor = generate(
            torch.tensor([list(prompt_ids)]),
            attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=max_tokens,
            pad_token_id=END,
        )
        new: list[int] = output[0, len(prompt_ids) :].tolist()
        return new[: new.index(END)] if END in new else new


@cache
def tiny_model(architecture: Architecture, seed: int = 0) -> TinyModel:
    """One model an architecture and seed for all tests."""
    return TinyModel(f"{architecture}-{seed}", random_module(architecture, seed))
