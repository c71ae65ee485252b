"""The engine's thread, with tiny random models."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from random import Random
from threading import Event
from typing import Any, cast

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

from schemas.errors import JobCancelled, Unsupported
from schemas.requests import Priority
from tests.tiny_models import tiny_module
from tests.unit.workers.decoding import go_on, outcome_of, prompt
from tests.unit.workers.tiny_loaded import ARCHITECTURES, alone, loaded, tiny_loaded
from workers.broken import WorkerBroken
from workers.engine import Completion, Engine, EngineClosed, Sampling
from workers.models import LoadedModel


class FailingLlama(LlamaForCausalLM):  # type: ignore[no-untyped-call]
    """A model whose third forward pass fails."""

    error: Exception = RuntimeError("a bug in the model")
    calls = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return super().forward(*args, **kwargs)


class DyingLlama(FailingLlama):  # type: ignore[no-untyped-call]
    """A model whose third forward pass leaves a device that computes nothing, as ``meta`` does."""

    error = torch.AcceleratorError("an illegal memory access was encountered")

    @property
    def device(self) -> torch.device:
        return torch.device("meta" if self.calls >= 3 else "cpu")


def failing(error: Exception) -> LoadedModel:
    module = FailingLlama(  # type: ignore[no-untyped-call]
        tiny_module("llama").config
    )
    module.error = error
    nn.Module.eval(module)
    return loaded(module, key="failing")


def dying() -> LoadedModel:
    module = DyingLlama(  # type: ignore[no-untyped-call]
        tiny_module("llama").config
    )
    nn.Module.eval(module)
    return loaded(module, key="dying")


def test_jobs_of_all_architectures_share_the_engine_and_get_their_own_answers() -> None:
    async def main() -> None:
        dice = Random(4)
        jobs = [
            (tiny_loaded(architecture), prompt(dice.randint(1, 60), seed), dice.randint(1, 20))
            for architecture in ARCHITECTURES
            for seed in range(6)
        ]
        dice.shuffle(jobs)
        with Engine(max_rows=4, max_tokens=600) as engine:
            waiting = [engine.submit(model, ids, Sampling(longest), check=go_on) for model, ids, longest in jobs]
            answers = await asyncio.gather(*waiting)
        for answer, (model, ids, longest) in zip(answers, jobs, strict=True):
            assert list(answer.token_ids) == alone(model, ids, longest)
            assert answer.text == model.decode(answer.token_ids)

    asyncio.run(main())


def test_a_short_answer_does_not_wait_for_a_long_one_of_another_model() -> None:
    async def main() -> None:
        with Engine() as engine:
            long = engine.submit(tiny_loaded("llama"), prompt(5), Sampling(110), check=go_on)
            short = engine.submit(tiny_loaded("gpt2"), prompt(5), Sampling(3), check=go_on)
            await short
            assert not long.done()
            await long

    asyncio.run(main())


def test_rows_beyond_the_bounds_wait_and_come_in_order() -> None:
    async def main() -> None:
        model, order = tiny_loaded("gpt2"), list[int]()

        def note(index: int, _: asyncio.Future[Completion]) -> None:
            order.append(index)

        with Engine(max_rows=64, max_tokens=60) as engine:  # room for one row of 20 + 30 tokens
            waiting = [engine.submit(model, prompt(20, seed), Sampling(30), check=go_on) for seed in range(4)]
            for index, future in enumerate(waiting):
                future.add_done_callback(partial(note, index))
            await asyncio.gather(*waiting)
            assert (engine.active, engine.waiting) == (0, 0)
        assert order == [0, 1, 2, 3]

    asyncio.run(main())


def test_a_row_larger_than_the_whole_cache_runs_by_itself() -> None:
    async def main() -> None:
        with Engine(max_tokens=10) as engine:
            answer = await engine.submit(tiny_loaded("gpt2"), prompt(20), Sampling(30), check=go_on)
            assert list(answer.token_ids) == alone(tiny_loaded("gpt2"), prompt(20), 30)

    asyncio.run(main())


@pytest.mark.parametrize("decoding", [True, False], ids=["decoding", "waiting"])
def test_a_stopped_job_gets_its_reason_whether_its_row_runs_or_waits(*, decoding: bool) -> None:
    async def main() -> None:
        model, cancelled = tiny_loaded("gpt2"), Event()

        def check() -> None:
            if cancelled.is_set():
                raise JobCancelled("by its owner")

        with Engine(max_rows=2 if decoding else 1) as engine:
            first = engine.submit(model, prompt(4, 1), Sampling(100), check=go_on)
            stopped = engine.submit(model, prompt(4, 2), Sampling(100), check=check)
            cancelled.set()
            assert isinstance(await outcome_of(stopped), JobCancelled)
            assert list((await first).token_ids) == alone(model, prompt(4, 1), 100)

    asyncio.run(main())


def test_a_future_that_is_cancelled_frees_its_row() -> None:
    async def main() -> None:
        model = tiny_loaded("gpt2")
        with Engine(max_rows=1) as engine:
            abandoned = engine.submit(model, prompt(4), Sampling(120), check=go_on)
            abandoned.cancel()
            answer = await engine.submit(model, prompt(5), Sampling(4), check=go_on)
            assert list(answer.token_ids) == alone(model, prompt(5), 4)

    asyncio.run(main())


def test_a_step_that_fails_ends_the_rows_of_its_model_alone() -> None:
    async def main() -> None:
        error = RuntimeError("a bug in the model")
        broken, sound = failing(error), tiny_loaded("gpt2")
        with Engine(max_rows=2) as engine:
            bad = [engine.submit(broken, prompt(6, seed), Sampling(9), check=go_on) for seed in range(2)]
            good = engine.submit(sound, prompt(6), Sampling(9), check=go_on)
            outcomes = [await outcome_of(future) for future in bad]
            assert [type(outcome) for outcome in outcomes] == [RuntimeError, RuntimeError]
            assert str(error) in str(outcomes[0])
            assert list((await good).token_ids) == alone(sound, prompt(6), 9)
            # The model's next rows run: its failure was of that step.
            later = await engine.submit(broken, prompt(7), Sampling(9), check=go_on)
            assert len(later.token_ids) > 0

    asyncio.run(main())


def test_a_device_that_dies_ends_the_engine_and_only_the_rows_that_it_died_with_are_to_blame() -> None:
    async def main() -> None:
        broken, sound = dying(), tiny_loaded("gpt2")
        with Engine(max_rows=2) as engine:
            bad = [engine.submit(broken, prompt(6, seed), Sampling(9), check=go_on) for seed in range(3)]
            good = engine.submit(sound, prompt(6), Sampling(90), check=go_on)
            outcomes = [await outcome_of(future) for future in (*bad, good)]
            assert [isinstance(outcome, WorkerBroken) for outcome in outcomes] == [False, False, True, True]
            assert "an illegal memory access" in str(outcomes[0])
            with pytest.raises(EngineClosed, match="Device meta computes no more"):
                engine.submit(sound, prompt(6), Sampling(9), check=go_on)

    asyncio.run(main())


class Endless:
    """A sampling whose length nobody can tell."""

    stop = ()

    @property
    def max_tokens(self) -> int:
        raise ZeroDivisionError

    def dice(self) -> Random:
        return Random()


def test_a_bug_of_the_engines_own_ends_it_and_nobody_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with Engine() as engine:
            sampling = cast(Sampling, Endless())
            outcome = await outcome_of(engine.submit(tiny_loaded("gpt2"), prompt(6), sampling, check=go_on))
            assert isinstance(outcome, RuntimeError)
            with pytest.raises(EngineClosed, match="by a bug of its own"):
                engine.submit(tiny_loaded("gpt2"), prompt(6), Sampling(9), check=go_on)

    asyncio.run(main())
    assert "ZeroDivisionError" in caplog.text


def test_a_model_with_a_recurrent_state_is_refused_with_its_type() -> None:
    config = AutoConfig.for_model(
        "mamba", vocab_size=259, hidden_size=16, state_size=4, num_hidden_layers=1, pad_token_id=0, eos_token_id=2
    )
    module = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    assert isinstance(module, PreTrainedModel)

    async def main() -> None:
        with Engine() as engine:
            refused = engine.submit(loaded(module, "mamba"), prompt(3), Sampling(2), check=go_on)
            with pytest.raises(Unsupported, match="mamba"):
                await refused

    asyncio.run(main())


def test_streamed_pieces_are_the_answers_text() -> None:
    async def main() -> None:
        model, pieces = tiny_loaded("gpt2"), list[str]()
        with Engine() as engine:
            sampling = Sampling(40, temperature=1.0, seed=2)
            answer = await engine.submit(model, prompt(4), sampling, check=go_on, on_text=pieces.append)
            assert "".join(pieces) == answer.text
            assert len(pieces) > 1

    asyncio.run(main())


def test_an_answer_ends_before_its_stop_string() -> None:
    async def main() -> None:
        model = tiny_loaded("gpt2")
        with Engine() as engine:
            sampling = Sampling(60, temperature=1.0, seed=2)
            whole = await engine.submit(model, prompt(4), sampling, check=go_on)
            stop = whole.text[10:12]
            cut = await engine.submit(
                model, prompt(4), Sampling(60, temperature=1.0, seed=2, stop=(stop,)), check=go_on
            )
            assert cut.text == whole.text[: whole.text.index(stop)]
            assert cut.finish_reason == "stop"
            assert len(cut.token_ids) < len(whole.token_ids)

    asyncio.run(main())


def test_a_listener_that_fails_ends_its_own_row_alone() -> None:
    def fail(_: str) -> None:
        raise ValueError("nobody listens")

    async def main() -> None:
        model = tiny_loaded("gpt2")
        with Engine() as engine:
            deaf = engine.submit(model, prompt(4), Sampling(40), check=go_on, on_text=fail)
            other = engine.submit(model, prompt(5), Sampling(40), check=go_on)
            assert isinstance(await outcome_of(deaf), ValueError)
            assert list((await other).token_ids) == alone(model, prompt(5), 40)

    asyncio.run(main())


def test_close_fails_what_has_not_ended_and_takes_no_more() -> None:
    async def main() -> None:
        model, engine = tiny_loaded("gpt2"), Engine(max_rows=1)
        engine.start()
        rows = [engine.submit(model, prompt(4, seed), Sampling(120), check=go_on) for seed in range(3)]
        await asyncio.to_thread(engine.close)
        engine.close()
        outcomes = await asyncio.gather(*rows, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[1:]] == [EngineClosed, EngineClosed]
        with pytest.raises(EngineClosed):
            engine.submit(model, prompt(4), Sampling(3), check=go_on)

    asyncio.run(main())


def test_an_empty_prompt_is_refused() -> None:
    async def main() -> None:
        with Engine() as engine, pytest.raises(ValueError, match="at least one token"):
            engine.submit(tiny_loaded(), [], Sampling(3), check=go_on)

    asyncio.run(main())


def test_an_idle_engine_holds_no_model() -> None:
    async def main() -> None:
        model = loaded(tiny_module("llama"), key="passing")
        gone = weakref.ref(model.module)
        with Engine() as engine:
            await engine.submit(model, prompt(4), Sampling(3), check=go_on)
            del model
            # The next job makes sure that the engine's thread is past the step that ended the last one.
            await engine.submit(tiny_loaded("gpt2"), prompt(4), Sampling(3), check=go_on)
            gc.collect()
            assert gone() is None

    asyncio.run(main())


def test_a_single_row_is_not_held_up_by_the_hundreds_of_another_job() -> None:
    def another() -> None:
        """Another job that nobody stops."""

    def third() -> None:
        """One more."""

    async def main() -> None:
        model, order = tiny_loaded("gpt2"), list[str]()

        def note(name: str, _: asyncio.Future[Completion]) -> None:
            order.append(name)

        engine = Engine(max_rows=2)
        many = [engine.submit(model, prompt(4, seed), Sampling(2), check=go_on) for seed in range(200)]
        one = engine.submit(model, prompt(4), Sampling(2), check=another)
        urgent = engine.submit(model, prompt(5), Sampling(2), check=third, priority=Priority.HIGH)
        for name, future in [*(("many", each) for each in many), ("one", one), ("urgent", urgent)]:
            future.add_done_callback(partial(note, name))
        with engine:
            await asyncio.gather(*many, one, urgent)
        assert order.index("urgent") < 2
        assert order.index("one") < 4

    asyncio.run(main())


def test_one_call_into_the_event_loop_a_step_brings_all_that_ended() -> None:
    class CountingLoop(asyncio.SelectorEventLoop):
        calls = 0

        def call_soon_threadsafe(
            self, callback: Callable[..., object], *args: object, context: Context | None = None
        ) -> asyncio.Handle:
            self.calls += 1
            return super().call_soon_threadsafe(callback, *args, context=context)

    async def main(loop: CountingLoop, prompts: Sequence[list[int]]) -> int:
        engine = Engine()
        rows = [engine.submit(tiny_loaded("gpt2"), ids, Sampling(1), check=go_on) for ids in prompts]
        with engine:
            await asyncio.gather(*rows)
            return loop.calls

    loop = CountingLoop()
    assert loop.run_until_complete(main(loop, [prompt(4, seed) for seed in range(30)])) == 1
    loop.close()
