"""Texts and conversations as tokens, by the tokenizer's own chat template where it has one.

Without a template a conversation is written as one line a message, ``{role}: {content}``, and the
answer follows ``assistant: ``.
"""

from collections.abc import Sequence

import msgspec
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from schemas.errors import Unsupported
from schemas.requests import Message


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool = True) -> list[int]:
    """The tokens of a text; ``special`` adds those that the tokenizer puts before every text."""
    ids: list[int] = tokenizer(text, add_special_tokens=special).input_ids
    # Some tokenizers also put an end behind every text, which would end the answer before it begins.
    if special and ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(str(tokenizer.eos_token)):
        return ids[:-1]
    return ids


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """The tokens of a conversation, up to where the assistant's answer begins.

    Raises:
        Unsupported: the template refuses the conversation (final).
    """
    # A template writes the special tokens itself.
    return token_ids(tokenizer, _render(tokenizer, messages, answer=True), special=not tokenizer.chat_template)


def answer_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """The tokens before the last message's content, and those of the content, ending with the end token.

    Raises:
        Unsupported: the template refuses the conversation (final).
    """
    before = _render(tokenizer, messages[:-1], answer=True)
    whole = _render(tokenizer, messages, answer=False)
    # Some templates write earlier turns differently from the last one; the content is right for all.
    answer = whole.removeprefix(before) if whole.startswith(before) else messages[-1].content
    prompt = token_ids(tokenizer, before, special=not tokenizer.chat_template)
    return prompt, ended(tokenizer, token_ids(tokenizer, answer, special=False))


def ended(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """The tokens up to and including their last end token; one is added where there is none.

    Raises:
        Unsupported: the tokenizer has no end token (final).
    """
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise Unsupported("The model's tokenizer has no end token, so an answer's end can't be learnt.")
    return ids[: len(ids) - ids[::-1].index(end)] if end in ids else [*ids, end]


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, answer: bool) -> str:
    if not tokenizer.chat_template:
        lines = [f"{message.role}: {message.content}" for message in messages]
        return "\n".join([*lines, "assistant: "] if answer else lines)
    turns: list[dict[str, str]] = [msgspec.to_builtins(message) for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer)
    except (TemplateError, TypeError, ValueError) as error:
        raise Unsupported(f"The model's chat template refuses the conversation: {error}") from error
    assert isinstance(text, str)
    return text
