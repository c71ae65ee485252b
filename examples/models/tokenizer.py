"""A tokenizer of bytes: 256 tokens for the bytes, three special ones, nothing to learn.

It is a real Hugging Face tokenizer (``AutoTokenizer`` loads it as a fast one), and any UTF-8 text
comes back from it unchanged.
"""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
PAD_ID, BOS_ID, EOS_ID = 256, 257, 258
VOCABULARY_SIZE = 259


def byte_letters() -> list[str]:
    """Return the printable letter that stands for each byte, 0 to 255.

    GPT-2's table: a printable Latin-1 byte is its own letter, the others follow from U+0100.
    ``tokenizers`` has it as ``ByteLevel``, but tells only the letters, not their bytes.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(0x100 + index) for index, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def byte_tokenizer(window: int) -> PreTrainedTokenizerFast:
    """Build the tokenizer: a byte's id is the byte, and a prompt starts with ``<bos>``.

    ``window`` is the longest input of the model, in tokens. A special token's name inside a text
    is read as text: a prompt can't end itself.
    """
    vocabulary = {letter: byte for byte, letter in enumerate(byte_letters())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens([PAD, BOS, EOS])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=window,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
