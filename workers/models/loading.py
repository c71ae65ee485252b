"""Files to modules: base models, and views that add an adapter without a copy of the base.

Everything here blocks. While transformers builds a model it changes ``torch.nn.init`` and the default
dtype of the whole process, so only one thread may build at a time (``Models.build``).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, PeftModelForCausalLM, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from runtime.io_errors import may_pass
from runtime.monitoring import monitor_performance
from runtime.settings import Device, InvalidSetting
from schemas.errors import HeadraceError, ModelRejected, shown
from workers.models.directory import check_directory, check_readable, unreadable
from workers.models.loaded import LoadedModel, ModelRef
from workers.models.room import is_out_of_memory, room_for

ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"
#: What to do about a model for which there is no room.
ADVICE: Final = "Ask for a smaller one, or give its worker more memory."
#: The window of a model that states none (a recurrent one, say).
UNSTATED_WINDOW_TOKENS: Final = 8_192
#: What configurations call the longest sequence.
WINDOW_FIELDS: Final = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")


def choose_device(setting: Device) -> torch.device:
    """The device of this process.

    Raises:
        InvalidSetting: ``cuda`` is asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if setting == "cuda" and not cuda:
        raise InvalidSetting("HEADRACE_DEVICE is 'cuda', but torch sees no CUDA device. Set it to cpu or auto.")
    return torch.device("cuda" if cuda and setting != "cpu" else "cpu")


def serving_dtype(device: torch.device) -> torch.dtype:
    """What a model's weights are held in: bfloat16 where the device computes in it, else float32."""
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


@monitor_performance("models.load_base")
def load_base(model_id: str, key: str, directory: Path, device: torch.device) -> LoadedModel:
    """Load a base model and its tokenizer, frozen and in evaluation mode.

    Raises:
        ModelRejected: its files are damaged, incomplete or not a causal language model's (final).
        ServerUnreachable, ModelUnavailable: they can't be read now, or not by this worker (retryable).
        OutOfMemory: the device has no room (retryable).
    """
    check_directory(directory)
    module = load_module(directory, serving_dtype(device)).requires_grad_(False)
    with room_for(f"model {model_id}", ADVICE):
        nn.Module.to(module, device)
    tokenizer = _load_tokenizer(directory, embedding_rows(module))
    return LoadedModel(
        ref=ModelRef(model_id),
        key=key,
        module=module,
        base_module=module,
        base_dir=directory,
        adapter_dir=None,
        tokenizer=tokenizer,
        window=_window(module),
        eos_ids=_eos_ids(module, tokenizer),
        size_bytes=_size_bytes(module),
    )


@monitor_performance("models.load_view")
def load_view(base: LoadedModel, adapter_id: str, key: str, adapter_dir: Path) -> LoadedModel:
    """A module of its own that adds an adapter to the base's weights, which it shares.

    Raises:
        ModelRejected: the adapter is damaged or does not fit the base (final).
        ServerUnreachable, ModelUnavailable: as ``load_base``.
    """
    module = load_adapter(base.base_module, adapter_dir).get_base_model()
    assert isinstance(module, PreTrainedModel)
    return replace(
        base,
        ref=ModelRef(base.ref.base, adapter_id),
        key=f"{base.key}+{key}",
        module=module,
        adapter_dir=adapter_dir,
        size_bytes=_size_bytes(module) - _size_bytes(base.base_module),
    )


def load_module(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The module of a model's directory, on the CPU, with weights mapped from the file where they can be.

    Raises:
        ModelRejected: the files are not a causal language model's, or are damaged (final).
        ServerUnreachable, ModelUnavailable: as ``load_base``.
        OutOfMemory: there is no room (retryable).
    """
    with _foreign(f"Model {directory.name}", directory):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True,
            output_loading_info=True,
        )  # fmt: skip
    module, report = loaded
    lacking = [*report["missing_keys"], *report["mismatched_keys"], *report["error_msgs"]]
    if lacking:
        raise ModelRejected(f"Model {directory.name} lacks weights that its config.json asks for: {shown(lacking)}")
    assert isinstance(module, PreTrainedModel)
    nn.Module.eval(module)
    return module


def load_adapter(base: PreTrainedModel, adapter_dir: Path, *, trainable: bool = False) -> PeftModel:
    """A view of the base with a saved adapter on it; ``trainable`` keeps it in float32, with gradients.

    Raises:
        ModelRejected: the adapter is damaged, of another method than LoRA, or does not fit the base (final).
        ServerUnreachable, ModelUnavailable: as ``load_base``.
    """
    with _foreign("The adapter", adapter_dir):
        config = LoraConfig.from_pretrained(str(adapter_dir), local_files_only=True)
        if not isinstance(config, LoraConfig):
            raise ModelRejected(f"The adapter's method is {type(config).__name__}; LoRA alone is supported.")
        config.inference_mode = not trainable
        weights = load_file(adapter_dir / ADAPTER_WEIGHTS, device=str(base.device))
        view = PeftModelForCausalLM(share(base), config, low_cpu_mem_usage=True, autocast_adapter_dtype=trainable)
        expected = get_peft_model_state_dict(view, save_embedding_layers=False)
        if differing := expected.keys() ^ weights.keys():
            raise ModelRejected(f"The adapter's weights don't fit the model: {shown(sorted(differing))}")
        set_peft_model_state_dict(view, weights, low_cpu_mem_usage=True)
    return view if trainable else view.eval()


def share(module: PreTrainedModel) -> PreTrainedModel:
    """A module tree of its own whose weights are the same memory as the given one's.

    Ties, buffers and generation settings are those of the original by construction. The parameters are
    other objects: what a user of the view does to their gradients does not reach the original.
    """
    memo: dict[int, object] = {id(buffer): buffer for buffer in module.buffers()}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    return copy.deepcopy(module, memo)


@contextmanager
def _foreign(what: str, directory: Path) -> Iterator[None]:
    """Around the reading of foreign files: transformers, peft and safetensors raise what they like.

    So the files are looked at before they are blamed: a disk that failed has damaged nobody's model.
    """
    with room_for(what, ADVICE):
        try:
            yield
        except Exception as error:
            if isinstance(error, HeadraceError) or is_out_of_memory(error):
                raise
            if may_pass(error):
                raise unreadable(directory, error) from error
            check_readable(directory)
            raise ModelRejected(f"{what} can't be loaded: {error}") from error


def _load_tokenizer(directory: Path, embedding_rows: int) -> PreTrainedTokenizerBase:
    with _foreign(f"The tokenizer of model {directory.name}", directory):
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
        if len(tokenizer) > embedding_rows and (directory / "tokenizer.json").exists():
            # A class may add special tokens of its own (Qwen2's does); the file has what the model knows.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if not tokenizer.is_fast:
        raise ModelRejected(f"Model {directory.name} has no fast tokenizer. Save it with a tokenizer.json.")
    if len(tokenizer) > embedding_rows:
        # On CUDA such a token would end the process, not the job.
        raise ModelRejected(
            f"Model {directory.name} has {embedding_rows:,} embeddings, its tokenizer {len(tokenizer):,} tokens."
        )
    # The limit that counts is the model's window; the tokenizer's own would only be warned about.
    tokenizer.model_max_length = 10**9
    # The first call drops the padding and truncation of the file; later ones, from many threads, change nothing.
    tokenizer("")
    return tokenizer


def embedding_rows(module: PreTrainedModel) -> int:
    """How many tokens the model knows."""
    weight = module.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight.shape[0]


def _size_bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _window(module: PreTrainedModel) -> int:
    config = module.config.get_text_config()
    stated = (getattr(config, field, None) for field in WINDOW_FIELDS)
    return next((value for value in stated if isinstance(value, int) and value > 0), UNSTATED_WINDOW_TOKENS)


def _eos_ids(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    stated = getattr(module.generation_config, "eos_token_id", None)
    ids = stated if isinstance(stated, list) else [stated]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if isinstance(token, int))
