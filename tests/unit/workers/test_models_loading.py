"""Files to modules: views that equal peft's own, and directories that are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from runtime.settings import InvalidSetting
from schemas.errors import ModelRejected, ServerUnreachable, Unsupported
from schemas.requests import Message
from tests.broken_disks import UNREADABLE, no_more_files
from tests.tiny_models import ARCHITECTURES, WINDOW_TOKENS, save_tiny_model
from workers.models import LoadedModel, choose_device
from workers.models.directory import content_digest
from workers.models.loading import load_base, load_view, share

CPU = torch.device("cpu")
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<{{ m['role'] }}>{{ m['content'] }}{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_view_computes_what_peft_computes_on_a_model_of_its_own(tmp_path: Path, architecture: str) -> None:
    directory = save_tiny_model(tmp_path / "base", architecture)
    adapter = _save_random_adapter(directory, tmp_path / "adapter", architecture)
    plain = AutoModelForCausalLM.from_pretrained(directory)
    base = _load(directory)
    before = _logits(base)

    view = load_view(base, "ft:base:x:1", "digest", adapter)

    expected = PeftModel.from_pretrained(plain, str(adapter))
    with torch.no_grad():
        assert torch.equal(_logits(view), expected(input_ids=_ids(view)).logits)
    assert torch.equal(_logits(base), before)
    assert not torch.equal(_logits(view), before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_shared_module_uses_the_original_memory_and_keeps_its_ties(tmp_path: Path, architecture: str) -> None:
    module = _load(save_tiny_model(tmp_path, architecture)).module

    shared = share(module)

    theirs = [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())]
    assert [tensor.data_ptr() for tensor in (*shared.parameters(), *shared.buffers())] == theirs
    assert not {id(parameter) for parameter in shared.parameters()} & {id(p) for p in module.parameters()}
    assert _is_tied(shared) == _is_tied(module) == (architecture in ("gpt2", "gemma"))


def test_a_view_takes_the_memory_of_its_adapter_alone(tmp_path: Path) -> None:
    directory = save_tiny_model(tmp_path / "base")
    base = _load(directory)

    view = load_view(base, "ft:base:x:1", "digest", _save_random_adapter(directory, tmp_path / "adapter"))

    weights = load_file(view.adapter_dir / "adapter_model.safetensors") if view.adapter_dir else {}
    assert view.size_bytes == sum(tensor.nbytes for tensor in weights.values())
    assert view.base_module is base.module


def test_a_loaded_model_is_frozen_and_knows_its_window_and_its_end(tmp_path: Path) -> None:
    model = _load(save_tiny_model(tmp_path, "gpt2"))

    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert (model.window, model.eos_ids) == (WINDOW_TOKENS, frozenset({2}))
    assert model.decode(model.encode("Grüße, 世界")) == "Grüße, 世界"


def test_a_conversation_follows_the_template_of_the_tokenizer(tmp_path: Path) -> None:
    model = _load(save_tiny_model(tmp_path, chat_template=CHAT_TEMPLATE))
    messages = (Message("user", "2+2?"), Message("assistant", "4"))

    prompt = model.encode_chat(messages[:1])
    before, answer = model.encode_answer(messages)

    assert model.tokenizer.decode(prompt) == "<user>2+2?<assistant>"
    assert before == prompt
    assert model.tokenizer.decode(answer) == "4<eos>"


def test_a_conversation_without_a_template_is_a_line_a_message(tmp_path: Path) -> None:
    model = _load(save_tiny_model(tmp_path))
    messages = (Message("user", "2+2?"), Message("assistant", "4"))

    before, answer = model.encode_answer(messages)

    assert model.decode(model.encode_chat(messages[:1])) == "user: 2+2?\nassistant: "
    assert model.tokenizer.decode([*before, *answer]) == "user: 2+2?\nassistant: 4<eos>"


def test_a_template_that_refuses_a_conversation_is_the_sender_s_error(tmp_path: Path) -> None:
    model = _load(save_tiny_model(tmp_path, chat_template=CHAT_TEMPLATE))

    with pytest.raises(Unsupported, match="no tools here"):
        model.encode_chat((Message("tool", "x"),))


def _without(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def _configured(**fields: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def _cut_weights(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _forged_header(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


def _lacking_weights(directory: Path) -> None:
    path = directory / "model.safetensors"
    weights = load_file(path)
    weights.pop("model.layers.0.mlp.up_proj.weight")
    save_file(weights, path, metadata={"format": "pt"})


def _malformed_config(directory: Path) -> None:
    (directory / "config.json").write_text("{")


def _malformed_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_configured(auto_map={"AutoModelForCausalLM": "evil.Model"}), "code of its own"),
        (_configured(model_type="no-such-architecture"), "no-such-architecture"),
        (_configured(model_type="t5"), "can't be loaded"),
        (_configured(hidden_size=64), "can't be loaded|lacks weights"),
        (_configured(hidden_size="many"), "can't be loaded"),
        (_configured(num_hidden_layers=3), "lacks weights"),
        (_without("config.json"), "no config.json"),
        (_without("model.safetensors"), "no safetensors"),
        (_without("tokenizer.json"), "no tokenizer"),
        (_cut_weights, "can't be loaded"),
        (_forged_header, "can't be loaded"),
        (_lacking_weights, "lacks weights"),
        (_malformed_config, "can't be read"),
        (_malformed_tokenizer, "tokenizer"),
    ],
)
def test_a_directory_that_cannot_be_loaded_safely_is_refused_with_the_reason(
    tmp_path: Path, harm: Callable[[Path], None], reason: str
) -> None:
    directory = save_tiny_model(tmp_path / "model")
    harm(directory)

    with pytest.raises(ModelRejected, match=reason):
        _load(directory)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_disk_that_fails_damages_no_model(tmp_path: Path, name: str) -> None:
    directory = save_tiny_model(tmp_path / "model")
    (directory / name).unlink()
    (directory / name).symlink_to(UNREADABLE)

    with pytest.raises(ServerUnreachable, match=r"The disk with the model's files .*Input/output error"):
        _load(directory)


def test_an_adapter_on_a_disk_that_fails_is_not_damaged(tmp_path: Path) -> None:
    directory = save_tiny_model(tmp_path / "base")
    adapter = _save_random_adapter(directory, tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.safetensors").symlink_to(UNREADABLE)

    with pytest.raises(ServerUnreachable, match="Input/output error"):
        load_view(_load(directory), "ft:base:x:1", "digest", adapter)


def test_a_worker_that_can_open_no_more_files_blames_no_model(tmp_path: Path) -> None:
    directory = save_tiny_model(tmp_path / "base")
    adapter = _save_random_adapter(directory, tmp_path / "adapter")
    base = _load(directory)

    with no_more_files(), pytest.raises(ServerUnreachable, match="Too many open files"):
        _load(directory)
    # Of this file safetensors says that it is not there.
    with no_more_files(), pytest.raises(ServerUnreachable, match="Too many open files"):
        load_view(base, "ft:base:x:1", "digest", adapter)


def test_a_directory_that_was_removed_before_it_was_read_is_no_damaged_model(tmp_path: Path) -> None:
    base = _load(save_tiny_model(tmp_path / "base"))

    with pytest.raises(ServerUnreachable, match="gone"):
        _load(tmp_path / "gone")
    with pytest.raises(ServerUnreachable, match="gone"):
        load_view(base, "ft:base:x:1", "digest", tmp_path / "gone")
    with pytest.raises(ServerUnreachable, match="gone"):
        content_digest(tmp_path / "gone")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    model = _load(save_tiny_model(tmp_path))
    model.tokenizer.add_tokens(["<one>", "<two>"])
    model.tokenizer.save_pretrained(tmp_path)

    with pytest.raises(ModelRejected, match="259 embeddings, its tokenizer 261 tokens"):
        _load(tmp_path)


def _cut_adapter(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def _other_method(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{"peft_type": "IA3", "task_type": "CAUSAL_LM"}')


def _fewer_weights(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    weights.popitem()
    save_file(weights, path)


@pytest.mark.parametrize("harm", [_cut_adapter, _other_method, _fewer_weights, _without("adapter_config.json")])
def test_an_adapter_that_is_damaged_is_refused(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    directory = save_tiny_model(tmp_path / "base")
    adapter = _save_random_adapter(directory, tmp_path / "adapter")
    harm(adapter)

    with pytest.raises(ModelRejected, match="adapter"):
        load_view(_load(directory), "ft:base:x:1", "digest", adapter)


def test_an_adapter_of_another_architecture_is_refused(tmp_path: Path) -> None:
    adapter = _save_random_adapter(save_tiny_model(tmp_path / "gpt2", "gpt2"), tmp_path / "adapter", "gpt2")

    with pytest.raises(ModelRejected, match="adapter"):
        load_view(_load(save_tiny_model(tmp_path / "llama")), "ft:base:x:1", "digest", adapter)


def test_the_device_is_the_one_that_is_there() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_asking_for_cuda_where_there_is_none_is_an_error() -> None:
    with pytest.raises(InvalidSetting, match="HEADRACE_DEVICE"):
        choose_device("cuda")


def _load(directory: Path) -> LoadedModel:
    return load_base(directory.name, "key", directory, CPU)


def _is_tied(module: PreTrainedModel) -> bool:
    names = {id(parameter): name for name, parameter in module.named_parameters(remove_duplicate=False)}
    return len(names) < len(list(module.named_parameters(remove_duplicate=False)))


def _ids(model: LoadedModel) -> torch.Tensor:
    return torch.tensor([model.encode("the quick brown fox")])


def _logits(model: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.module(input_ids=_ids(model)).logits
    return logits


def _save_random_adapter(base: Path, directory: Path, architecture: str = "llama") -> Path:
    """An adapter as peft saves it, with random weights in both of its halves."""
    module = AutoModelForCausalLM.from_pretrained(base)
    assert isinstance(module, PreTrainedModel)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=architecture == "gpt2")
    model = get_peft_model(module, config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3, generator=generator)
    model.save_pretrained(str(directory))
    return directory
