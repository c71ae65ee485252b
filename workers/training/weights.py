"""What is trained, and how it is saved: an adapter on shared frozen weights, or all weights in a copy.

Building modules is for the one thread that may (``Models.build``).
"""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from peft import LoraConfig, PeftModel, PeftModelForCausalLM, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from runtime.artifacts.manifest import may_hold
from schemas.errors import Unsupported, shown
from schemas.requests import Method
from workers.models import LoadedModel
from workers.models.loading import ADAPTER_WEIGHTS, load_adapter, load_module, share
from workers.models.room import room_for

#: What a tokenizer's files begin with; they are copied, so that a tuned model reads text as its base does.
TOKENIZER_FILES: Final = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "spiece.model",
    "chat_template*",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tuned:
    """A module in training, and what saves its outcome. ``base`` is the id that the outcome stands on."""

    module: PreTrainedModel
    base: str
    adapter: PeftModel | None
    source: LoadedModel

    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained."""
        return list(self.named_parameters().values())

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Those that are trained, by their names in the module, always in the same order."""
        return {name: parameter for name, parameter in self.module.named_parameters() if parameter.requires_grad}

    def save(self, directory: Path) -> None:
        """Write a directory that peft, or transformers, loads as its own."""
        if self.adapter is None:
            _save_whole(self.module, self.source, directory)
        else:
            _save_adapter(self.adapter, self.base, directory)


def prepare(model: LoadedModel, method: Method, seed: int) -> Tuned:
    """What to train. A tuned adapter is continued by ``lora``, and merged into the copy by ``full``.

    Raises:
        Unsupported: the model has no such target modules, or the adapter another shape (final).
        ModelRejected: its files have become unreadable (final).
        OutOfMemory: there is no room for the copy (retryable).
    """
    if method.type == "full":
        return Tuned(_whole(model), model.ref.id, None, model)
    adapter = _new_adapter(model, method, seed) if model.adapter_dir is None else _old_adapter(model, method)
    module = adapter.get_base_model()
    assert isinstance(module, PreTrainedModel)
    return Tuned(module, model.ref.base, adapter, model)


def _whole(model: LoadedModel) -> PreTrainedModel:
    # From the files, not from memory: there the weights may be rounded to what serving needs.
    module = load_module(model.base_dir, torch.float32)
    if model.adapter_dir is not None:
        merged = load_adapter(module, model.adapter_dir, trainable=True).merge_and_unload()
        assert isinstance(merged, PreTrainedModel)
        module = merged
    # Copied off the mapped file: in-place updates belong to this run alone.
    with room_for(f"a copy of model {model.ref.id}", "Tune an adapter instead (method lora)."):
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.to(model.device, copy=True)
    return module.requires_grad_(True)


def _new_adapter(model: LoadedModel, method: Method, seed: int) -> PeftModel:
    base = share(model.base_module)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=method.rank,
        lora_alpha=alpha_of(method),  # type: ignore[arg-type]  # peft divides it; any number will do
        target_modules=list(method.target_modules) if method.target_modules else "all-linear",
        # GPT-2 keeps its linear layers transposed.
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in base.modules()),
    )
    try:
        adapter = PeftModelForCausalLM(base, config)
    except ValueError as error:
        raise Unsupported(
            f"target_modules {shown(method.target_modules)} can't be tuned in model {model.ref.id}: {error}"
        ) from error
    _initialize(adapter, seed)
    return adapter.eval()


def _old_adapter(model: LoadedModel, method: Method) -> PeftModel:
    assert model.adapter_dir is not None
    adapter = load_adapter(model.base_module, model.adapter_dir, trainable=True)
    config = _config(adapter)
    same_scale = math.isclose(config.lora_alpha, alpha_of(method))
    if config.r != method.rank or not same_scale or method.target_modules is not None:
        raise Unsupported(
            f"Model {model.ref.id} has an adapter of rank {config.r} and alpha {config.lora_alpha:g}, which is "
            f"continued as it is; the request asks for rank {method.rank}, alpha {alpha_of(method):g} and "
            f"target_modules {shown(method.target_modules)}. Ask for the same and name no target_modules, "
            f"or tune {model.ref.base}."
        )
    return adapter.eval()


@torch.no_grad()
def _initialize(adapter: PeftModel, seed: int) -> None:
    """Draw the adapter as peft does (A uniform as in He et al., 2015, with a = sqrt 5; B zero), but repeatably.

    peft draws from the process' generator, which other threads use at the same time.
    """
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in adapter.named_parameters():
        if "lora_A" in name:
            bound = parameter.shape[1] ** -0.5
            values = torch.empty(parameter.shape).uniform_(-bound, bound, generator=draw)
        elif "lora_embedding_B" in name:
            values = torch.empty(parameter.shape).normal_(generator=draw)
        elif "lora_B" in name or "lora_embedding_A" in name:
            values = torch.zeros(parameter.shape)
        else:
            continue
        parameter.copy_(values)


def alpha_of(method: Method) -> float:
    """The scale of an adapter, before it is divided by the rank."""
    return 2 * method.rank if method.alpha is None else method.alpha


def _config(adapter: PeftModel) -> LoraConfig:
    config = adapter.peft_config["default"]
    assert isinstance(config, LoraConfig)
    return config


def _save_adapter(adapter: PeftModel, base: str, directory: Path) -> None:
    config = _config(adapter)
    config.base_model_name_or_path = base
    config.inference_mode = True
    if not isinstance(config.target_modules, str):
        # In order (peft holds a set), so that the same weights are the same artifact.
        config.target_modules = sorted(config.target_modules or ())
    config.save_pretrained(str(directory))
    state = get_peft_model_state_dict(adapter, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    save_file(tensors, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _save_whole(module: PreTrainedModel, source: LoadedModel, directory: Path) -> None:
    stated = source.base_module.config.dtype
    nn.Module.to(module, stated if isinstance(stated, torch.dtype) else torch.float32)
    module.save_pretrained(directory)
    for pattern in TOKENIZER_FILES:
        for path in source.base_dir.glob(pattern):
            # Others lie there too (tokenizer.model.v3, a backup): nobody reads them, and they could not be published.
            if may_hold(path.name) and path.is_file():
                shutil.copyfile(path, directory / path.name)
