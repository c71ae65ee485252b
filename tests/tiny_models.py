"""Random models of a few thousand parameters, with a byte tokenizer, saved as any Hugging Face model is."""

from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

ARCHITECTURES: Final = ("llama", "gpt2", "qwen2", "gemma")
PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
WINDOW_TOKENS: Final = 128
VOCABULARY: Final = 259


def byte_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A token a byte, after three special tokens: ``<pad>`` 0, ``<bos>`` 1, ``<eos>`` 2."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([PAD, BOS, EOS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS
    )
    fast.chat_template = chat_template
    return fast


def tiny_module(architecture: str, seed: int = 0) -> PreTrainedModel:
    """A random causal language model: two layers, 32 wide."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = AutoModelForCausalLM.from_config(_config(architecture))  # type: ignore[no-untyped-call]
    assert isinstance(module, PreTrainedModel)
    nn.Module.eval(module)
    return module


def _config(architecture: str) -> PretrainedConfig:
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if architecture == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": WINDOW_TOKENS}
    else:
        shape = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": WINDOW_TOKENS,
        }  # fmt: skip
    if architecture == "gemma3":
        # One that sees pictures, too.
        sight = {
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14,
        }  # fmt: skip
        text = {"vocab_size": VOCABULARY, **shape, **ends}
        tokens = {"mm_tokens_per_image": 4, "image_token_index": 250, "boi_token_index": 251, "eoi_token_index": 252}
        return AutoConfig.for_model(architecture, text_config=text, vision_config=sight, **tokens)
    return AutoConfig.for_model(architecture, vocab_size=VOCABULARY, **shape, **ends)


def save_tiny_model(directory: Path, architecture: str = "llama", *, chat_template: str | None = None) -> Path:
    """Write a tiny model and its tokenizer; the directory."""
    tiny_module(architecture).save_pretrained(directory)
    byte_tokenizer(chat_template).save_pretrained(directory)
    return directory
