"""A model in memory: its weights, its tokenizer, and how text becomes tokens and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from schemas.requests import Message, Record
from workers.models import conversation


@dataclass(frozen=True)
class ModelRef:
    """Which model: a base, and the tuned adapter on top of it where there is one."""

    base: str
    adapter: str | None = None

    @property
    def id(self) -> str:
        """The id that a request asks for it by."""
        return self.adapter or self.base


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedModel:
    """A model that many jobs read at once. Nobody may change it; ``key`` is the same for the same weights.

    ``module`` is a causal language model in evaluation mode, with the adapter where there is one;
    ``base_module`` the same without it (its weights are the same memory). ``window`` is in tokens,
    ``size_bytes`` is what this model adds to memory.
    """

    ref: ModelRef
    key: str
    module: PreTrainedModel
    base_module: PreTrainedModel
    base_dir: Path
    adapter_dir: Path | None
    tokenizer: PreTrainedTokenizerBase
    window: int
    eos_ids: frozenset[int]
    size_bytes: int

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where its files are: the base's, and the adapter's where there is one."""
        return (self.base_dir,) if self.adapter_dir is None else (self.base_dir, self.adapter_dir)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.module.device

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt, with those that the tokenizer puts before every text."""
        return conversation.token_ids(self.tokenizer, text)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation, up to where the assistant's answer begins.

        Raises:
            Unsupported: the model's chat template refuses the conversation (final).
        """
        return conversation.prompt_ids(self.tokenizer, messages)

    def encode_answer(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """The tokens of a conversation and of its last message, which is the assistant's, with its end.

        Raises:
            Unsupported: the model's chat template refuses the conversation (final).
        """
        return conversation.answer_ids(self.tokenizer, messages)

    def encode_record(self, record: Record) -> tuple[list[int], list[int]]:
        """The tokens of an example's prompt, and of the answer to it, with its end.

        Raises:
            Unsupported: the tokenizer has no end token, or the chat template refuses the conversation (final).
        """
        if record.messages is not None:
            return self.encode_answer(record.messages)
        completion = conversation.token_ids(self.tokenizer, record.completion or "", special=False)
        return self.encode(record.prompt or ""), conversation.ended(self.tokenizer, completion)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of new tokens, without special ones."""
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text
