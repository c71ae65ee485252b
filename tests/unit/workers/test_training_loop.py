"""The training loop and what it saves: it learns, repeats, stops, and says when it can't go on."""

from pathlib import Path

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtime.artifacts.manifest import manifest_of
from schemas.errors import JobCancelled, TrainingDiverged, Unsupported
from schemas.requests import Hyperparameters, Method
from tests.tiny_models import ARCHITECTURES
from tests.unit.workers.tuning import Watcher, load_tiny, samples_of, start
from workers.models import LoadedModel
from workers.models.loading import load_view
from workers.training import prepare
from workers.training.batches import padded

LORA = Method(rank=8)
FULL = Method("full")
BRISK = Hyperparameters(max_steps=40, batch_size=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_training_lowers_the_loss_and_leaves_the_base_as_it_was(
    tmp_path: Path, architecture: str, method: Method
) -> None:
    model = load_tiny(tmp_path, architecture)
    before = [parameter.clone() for parameter in model.module.parameters()]
    _, run = start(model, BRISK, method)
    untrained = run.mean_loss(samples_of(model), Watcher())

    trained = run.run(Watcher())

    assert trained.train_loss < untrained - 0.3
    assert run.mean_loss(samples_of(model), Watcher()) < untrained - 0.3
    assert all(torch.equal(a, b) for a, b in zip(before, model.module.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(llama: LoadedModel, tmp_path: Path, method: Method) -> None:
    saved = []
    for attempt, seed in enumerate((7, 7, 8)):
        torch.manual_seed(attempt)  # what other threads draw makes no difference
        tuned, run = start(llama, Hyperparameters(max_steps=5, batch_size=16), method, seed)
        run.run(Watcher())
        directory = tmp_path / str(attempt)
        directory.mkdir()
        tuned.save(directory)
        saved.append({path.name: path.read_bytes() for path in directory.iterdir()})

    assert saved[0] == saved[1]
    assert saved[0] != saved[2]


def test_packed_and_padded_steps_have_the_same_gradients(llama: LoadedModel) -> None:
    losses = []
    for packing in (True, False):
        _, run = start(llama, Hyperparameters(max_steps=8, batch_size=32, packing=packing), LORA)
        losses.append(run.run(Watcher()).train_loss)

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_step_in_many_passes_equals_a_step_in_one(llama: LoadedModel) -> None:
    samples = samples_of(llama)
    _, run = start(llama, Hyperparameters(max_steps=1, batch_size=len(samples)), FULL)

    whole = run.mean_loss(samples, Watcher())

    batches = [batch for sample in samples for batch in padded([sample])]
    assert len(batches) == len(samples)
    trained_tokens = sum(sample.trained_tokens for sample in samples)
    with torch.no_grad():
        parts = sum(run._loss(batch).item() for batch in batches)
    assert whole == pytest.approx(parts / trained_tokens, rel=1e-5)


def test_the_first_and_the_last_step_are_reported(llama: LoadedModel) -> None:
    watcher = Watcher()
    _, run = start(llama, BRISK, LORA)

    trained = run.run(watcher)

    assert (watcher.steps[0].step, watcher.steps[-1].step) == (1, 40)
    assert watcher.steps[0].remaining_s > 0
    assert watcher.steps[-1].remaining_s == 0
    assert all(report.steps == 40 and report.tokens_per_s > 0 for report in watcher.steps)
    assert trained.steps == 40
    assert trained.tokens == run.reached.tokens > 40 * 16 * 5


def test_a_cancelled_run_stops_within_a_step(llama: LoadedModel) -> None:
    _, run = start(llama, BRISK, LORA)

    with pytest.raises(JobCancelled):
        run.run(Watcher(stop_at=4))

    assert run.reached.step == 3


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step_and_rate(llama: LoadedModel) -> None:
    hyper = Hyperparameters(max_steps=50, batch_size=16, learning_rate=1, schedule="constant", max_grad_norm=1_000)
    tuned, run = start(llama, hyper, FULL)
    with torch.no_grad():
        tuned.parameters()[0].fill_(float("inf"))

    with pytest.raises(TrainingDiverged, match="loss was nan at step 1 with learning rate 1"):
        run.run(Watcher())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_adapter_loads_in_plain_peft_and_in_the_cache_alike(tmp_path: Path, architecture: str) -> None:
    model = load_tiny(tmp_path / "base", architecture)
    tuned, run = start(model, BRISK, LORA)
    run.run(Watcher())
    (tmp_path / "adapter").mkdir()
    tuned.save(tmp_path / "adapter")

    plain = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), str(tmp_path / "adapter")
    )
    view = load_view(model, "ft:x:y:1", "digest", tmp_path / "adapter")

    ids = torch.tensor([model.encode("3+4=")])
    with torch.no_grad():
        expected = tuned.module(input_ids=ids).logits
        assert torch.equal(plain(input_ids=ids).logits, expected)
        assert torch.equal(view.module(input_ids=ids).logits, expected)
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_a_whole_model_that_was_tuned_loads_in_plain_transformers(llama: LoadedModel, tmp_path: Path) -> None:
    tuned, run = start(llama, BRISK, FULL)
    run.run(Watcher())
    tuned.save(tmp_path)

    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path)("3+4=").input_ids])

    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, tuned.module(input_ids=ids).logits)


def test_what_lies_beside_a_base_model_does_not_keep_its_copy_from_being_published(tmp_path: Path) -> None:
    base = load_tiny(tmp_path / "base")
    for name in ("tokenizer.model.v3", "vocab.bpe", "tokenizer.json.bak", "tokenizer (1).json"):
        (tmp_path / "base" / name).write_text("{}")
    (tmp_path / "base" / "tokenizer_files").mkdir()
    (tmp_path / "base" / "vocab.txt").write_text("a")
    (tmp_path / "tuned").mkdir()

    prepare(base, Method("full"), 0).save(tmp_path / "tuned")

    names = {file.name for file in manifest_of(tmp_path / "tuned").files}
    assert {"tokenizer.json", "tokenizer_config.json", "vocab.txt", "config.json", "model.safetensors"} <= names


def test_a_tuned_adapter_is_continued_where_it_stood(llama: LoadedModel, tmp_path: Path) -> None:
    view, reached = _tuned_view(llama, tmp_path)

    tuned, run = start(view, BRISK, LORA)

    assert run.mean_loss(samples_of(llama), Watcher()) == pytest.approx(reached, rel=1e-5)
    assert tuned.base == llama.ref.base
    lent = _lora_weights(view.module)
    before = [tensor.clone() for tensor in lent]
    run.run(Watcher())
    assert all(torch.equal(a, b) for a, b in zip(before, lent, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before, _lora_weights(tuned.module), strict=True))


def test_a_tuned_adapter_is_merged_into_a_model_that_is_tuned_in_whole(llama: LoadedModel, tmp_path: Path) -> None:
    view, reached = _tuned_view(llama, tmp_path)

    tuned, run = start(view, BRISK, FULL)

    assert run.mean_loss(samples_of(llama), Watcher()) == pytest.approx(reached, rel=1e-4)
    assert tuned.base == view.ref.id
    assert not any("lora" in name for name, _ in tuned.module.named_parameters())


@pytest.mark.parametrize(
    ("method", "reason"),
    [(Method(rank=4), "asks for rank 4"), (Method(rank=8, target_modules=("q_proj",)), "q_proj")],
)
def test_an_adapter_is_not_continued_in_another_shape(
    llama: LoadedModel, tmp_path: Path, method: Method, reason: str
) -> None:
    view, _ = _tuned_view(llama, tmp_path)

    with pytest.raises(Unsupported, match=f"adapter of rank 8 and alpha 16, .*{reason}"):
        start(view, BRISK, method)


def test_target_modules_that_the_model_lacks_are_refused(llama: LoadedModel) -> None:
    with pytest.raises(Unsupported, match=r"target_modules \('no_such_layer',\) can't be tuned in model llama"):
        start(llama, BRISK, Method(target_modules=("no_such_layer",)))


def test_only_the_modules_that_were_asked_for_are_tuned(llama: LoadedModel) -> None:
    tuned, _ = start(llama, BRISK, Method(rank=2, alpha=3.0, target_modules=("q_proj", "embed_tokens")))

    names = {
        name.rsplit(".lora", 1)[0].rsplit(".", 1)[1] for name, p in tuned.module.named_parameters() if p.requires_grad
    }
    assert names == {"q_proj", "embed_tokens"}


def _lora_weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter for name, parameter in module.named_parameters() if "lora" in name]


def _tuned_view(llama: LoadedModel, directory: Path) -> tuple[LoadedModel, float]:
    """A tuned model as the cache lends it, and its loss."""
    tuned, run = start(llama, BRISK, LORA)
    run.run(Watcher())
    tuned.save(directory)
    return load_view(llama, "ft:llama:x:1", "digest", directory), run.mean_loss(samples_of(llama), Watcher())
