"""An engine whose device has room for less than it was told."""

import asyncio
from random import Random
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from schemas.errors import JobCancelled, OutOfMemory
from tests.tiny_models import tiny_module
from tests.unit.workers.decoding import go_on, outcome_of, prompt
from tests.unit.workers.tiny_loaded import alone, loaded, tiny_loaded
from workers.engine import Completion, CutShort, Engine, Sampling
from workers.models import LoadedModel

CUDA = torch.OutOfMemoryError("CUDA out of memory")
CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


class CrampedLlama(LlamaForCausalLM):  # type: ignore[no-untyped-call]
    """A model that has memory for so many rows at once, each of so many tokens."""

    error: Exception = CUDA
    rows, width = 64, 1_000
    overflows = 0

    def forward(self, *args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        output = super().forward(*args, position_ids=position_ids, **kwargs)
        # Raised at the end: what the step has written stays, and nobody must count on it.
        if len(kwargs["input_ids"]) > self.rows or kwargs["past_key_values"].width > self.width:
            self.overflows += 1
            raise self.error
        return output


def cramped(rows: int = 64, width: int = 1_000, error: Exception = CUDA) -> tuple[LoadedModel, CrampedLlama]:
    module = CrampedLlama(  # type: ignore[no-untyped-call]
        tiny_module("llama").config
    )
    model = loaded(module, key="cramped")
    # The answers are checked against those of a model with room.
    module.load_state_dict(tiny_loaded().module.state_dict())
    module.rows, module.width, module.error = rows, width, error
    nn.Module.eval(module)
    return model, module


@pytest.mark.parametrize("error", [CUDA, CPU], ids=["cuda", "cpu"])
def test_rows_that_do_not_fit_together_are_answered_in_smaller_batches(error: Exception) -> None:
    async def main() -> None:
        model, module = cramped(rows=3, error=error)
        dice = Random(6)
        jobs = [(prompt(dice.randint(1, 40), seed), dice.randint(1, 30)) for seed in range(12)]
        with Engine(max_rows=16) as engine:
            rows = [engine.submit(model, ids, Sampling(longest), check=go_on) for ids, longest in jobs]
            answers = await asyncio.gather(*rows)
        assert module.overflows > 0
        for answer, (ids, longest) in zip(answers, jobs, strict=True):
            assert list(answer.token_ids) == alone(tiny_loaded(), ids, longest)
            assert answer.prompt_tokens == len(ids)
            assert answer.device_s > 0

    asyncio.run(main())


def test_an_answer_that_had_to_wait_again_is_what_it_would_have_been_and_is_streamed_once() -> None:
    async def main() -> None:
        model, module = cramped(width=40)
        drawn = Sampling(30, temperature=0.9, top_p=0.9, seed=5)
        with Engine() as engine:
            wanted = await engine.submit(tiny_loaded(), prompt(9), drawn, check=go_on)
        pieces = list[str]()
        with Engine() as engine:
            row = engine.submit(model, prompt(9), drawn, check=go_on, on_text=pieces.append)
            # They grow to more than 40 columns, and take the other row along.
            long = [engine.submit(model, prompt(30, seed), Sampling(12), check=go_on) for seed in range(2)]
            answer = await row
            assert [type(await outcome_of(each)) for each in long] == [OutOfMemory, OutOfMemory]
        assert module.overflows > 2
        assert answer.token_ids == wanted.token_ids
        assert "".join(pieces) == answer.text == wanted.text

    asyncio.run(main())


def test_a_row_that_does_not_even_fit_alone_fails_and_costs_nobody_else_an_answer() -> None:
    async def main() -> None:
        model, _ = cramped(width=60)
        sound = tiny_loaded("gpt2")
        with Engine(max_rows=8) as engine:
            small = [engine.submit(model, prompt(6, seed), Sampling(40), check=go_on) for seed in range(5)]
            large = engine.submit(model, prompt(90), Sampling(9), check=go_on)
            other = engine.submit(sound, prompt(6), Sampling(60), check=go_on)
            outcome = await outcome_of(large)
            assert isinstance(outcome, OutOfMemory)
            assert "CUDA out of memory" in str(outcome)
            for seed, row in enumerate(small):
                assert list((await row).token_ids) == alone(tiny_loaded(), prompt(6, seed), 40)
            assert list((await other).token_ids) == alone(sound, prompt(6), 60)

    asyncio.run(main())


def test_a_row_that_waits_again_keeps_its_text_when_it_is_cut_short() -> None:
    stops = list[JobCancelled]()

    def check() -> None:
        if stops:
            raise stops[0]

    async def main() -> None:
        model, module = cramped(rows=1)
        pieces = list[str]()

        def listen(piece: str) -> None:
            pieces.append(piece)
            if module.overflows:
                stops.append(JobCancelled("enough", keep_partial=True))

        with Engine() as engine:
            first = engine.submit(model, prompt(5), Sampling(100), check=go_on)
            cut = engine.submit(model, prompt(6), Sampling(100), check=check, on_text=listen)
            outcome = await outcome_of(cut)
            assert isinstance(outcome, CutShort)
            assert outcome.completion.text == "".join(pieces)
            assert isinstance(await outcome_of(first), Completion)

    asyncio.run(main())
