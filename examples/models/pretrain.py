"""Pre-train the base model: ``python -m examples.models.pretrain [DIRECTORY]``.

Writes what ``AutoModelForCausalLM`` and ``AutoTokenizer`` load, and ``pretraining.json``: how it was made, what it
can do, and the digest of the weights. One thread, a fixed seed and a fixed number of steps: the same machine and
the same torch make the same weights; another machine rounds differently.
"""

import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import platform
import random
import sys
import time
from collections.abc import Iterator, Sequence

import babel
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from examples.models.batches import BATCHES_PER_POOL, Batch, grouped_batches
from examples.models.lexicon import Lexicon, load_lexicon
from examples.models.marks import marks
from examples.models.tasks import draw
from examples.models.tokenizer import BOS_ID, EOS_ID, PAD_ID, VOCABULARY_SIZE, byte_tokenizer

SEED = 20_261_123
STEPS = 6_000
BATCH_SIZE = 32
WARMUP_STEPS = 50
#: The learning rate stays at its peak for this share of the steps, then falls to 0 in a line.
PEAK_SHARE = 0.4
LEARNING_RATE = 0.005
WEIGHT_DECAY = 0.01
GRADIENT_NORM_MAX = 1.0

#: Tokens that the model can read. The exercises have at most 170; a rotary model copes with some more.
WINDOW = 512
TEST_EXERCISES = 2_000
REPORT_STEPS = 100


def new_model() -> LlamaForCausalLM:
    """A Llama of 0.8 M parameters: 4 layers of width 128."""
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        # Half of 1/sqrt(width): the default, 0.02, is for models ten times as wide, and learns later.
        initializer_range=0.04,
        tie_word_embeddings=True,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )
    return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]  # transformers leaves it untyped


def optimizers_of(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon (Jordan, 2024) for the matrices of the layers, AdamW for embeddings and norms.

    At equal tokens, Muon's loss was far below that of AdamW alone (benchmarks/LOG.md).
    """
    inner = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]
    matrices = {id(parameter) for parameter in inner}
    others = [parameter for parameter in model.parameters() if id(parameter) not in matrices]
    return [
        torch.optim.Muon(inner, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def learning_rate_at(step: int) -> float:
    """Linear warm-up, a plateau, linear decay to 0."""
    falling = (STEPS - step) / (STEPS * (1 - PEAK_SHARE))
    return LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS, falling)


def exercises(lexicon: Lexicon, rng: random.Random) -> Iterator[Batch]:
    """Yield new batches for ever; no exercise is repeated on purpose."""
    while True:
        pool = draw(rng, lexicon, BATCH_SIZE * BATCHES_PER_POOL)
        yield from grouped_batches([(each.prompt, each.completion) for each in pool], BATCH_SIZE, rng)


@dataclasses.dataclass(frozen=True)
class Run:
    """What pre-training came to."""

    tokens: int
    loss: float
    minutes: float


def pretrain(model: LlamaForCausalLM, batches: Iterator[Batch]) -> Run:
    """Train ``model`` in place for ``STEPS`` steps; the loss returned is the mean of the last ones."""
    optimizers = optimizers_of(model)
    started_s, tokens, losses = time.perf_counter(), 0, list[float]()
    for step, (inputs, labels) in enumerate(itertools.islice(batches, STEPS)):
        for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
            group["lr"] = learning_rate_at(step)
        loss = model(input_ids=inputs, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM_MAX)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        tokens += inputs.numel()
        losses = [*losses[-REPORT_STEPS:], loss.item()]
        if (step + 1) % REPORT_STEPS == 0:
            print(f"step {step + 1} loss {_mean(losses):.3f} {time.perf_counter() - started_s:.0f} s", flush=True)
    return Run(tokens, _mean(losses), (time.perf_counter() - started_s) / 60)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def save(model: LlamaForCausalLM, run: Run, right: dict[str, float], directory: pathlib.Path) -> None:
    """Write the model's directory, with its record. What people wrote there (README.md) stays."""
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID, do_sample=False
    )
    model.save_pretrained(directory)
    byte_tokenizer(WINDOW).save_pretrained(directory)
    record = {
        "command": "python -m examples.models.pretrain",
        "seed": SEED,
        "steps": STEPS,
        "batch_size": BATCH_SIZE,
        "tokens": run.tokens,
        "minutes": round(run.minutes, 1),
        "loss": round(run.loss, 4),
        "parameters": model.num_parameters(),
        "right": right,
        "versions": {"torch": torch.__version__, "babel": babel.__version__, "python": platform.python_version()},
        "sha256": hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest(),
    }
    (directory / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    """Pre-train into the directory named on the command line, else ``example-base`` beside this file."""
    here = pathlib.Path(__file__).parent
    directory = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "example-base"
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    lexicon = load_lexicon(SEED)
    model = new_model()
    test = draw(rng, lexicon, TEST_EXERCISES)
    run = pretrain(model, exercises(lexicon, rng))
    save(model, run, marks(model, test), directory)


if __name__ == "__main__":
    main()
