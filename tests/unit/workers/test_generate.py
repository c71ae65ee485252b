"""The generate handler on a tiny random model that is loaded from disk."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from schemas.errors import JobCancelled, ModelNotFound, PromptTooLong
from schemas.events import CountProgress, ProgressEvent, State, TextProgress
from schemas.requests import GenerateRequest, Message, Priority
from schemas.results import GenerateResult
from tests.tiny_models import WINDOW_TOKENS, save_tiny_model
from tests.unit.workers.handling import Bench, open_bench
from workers.context import JobContext
from workers.engine import Completion, Engine, Sampling
from workers.generate import ASKED_ROWS, generate
from workers.models import LoadedModel

PROMPTS = ("one", "two and more", "drei", "quatre ou cinq", "6")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as bench:
        save_tiny_model(bench.models_dir / "tiny")
        yield bench


def test_answers_are_ordered_by_prompt_then_by_index(bench: Bench) -> None:
    request = GenerateRequest(model="tiny", prompts=PROMPTS, n=3, max_tokens=8, temperature=1.0, seed=4)
    result, _ = bench.run(generate, request)
    places = [(choice.prompt, choice.index) for choice in result.choices]
    assert places == [(prompt, index) for prompt in range(5) for index in range(3)]
    assert len({choice.text for choice in result.choices if choice.prompt == 0}) == 3


def test_a_prompts_answer_is_the_same_alone_and_in_a_list(bench: Bench) -> None:
    listed, _ = bench.run(generate, GenerateRequest(model="tiny", prompts=PROMPTS, max_tokens=8, seed=4))
    for index, prompt in enumerate(PROMPTS):
        alone, _ = bench.run(generate, GenerateRequest(model="tiny", prompt=prompt, max_tokens=8, seed=4))
        assert alone.choices[0].text == listed.choices[index].text


def test_a_conversation_is_answered(bench: Bench) -> None:
    request = GenerateRequest(
        model="tiny", messages=(Message(role="user", content="Hello"),), max_tokens=5, temperature=0
    )
    result, _ = bench.run(generate, request)
    [choice] = result.choices
    assert choice.tokens <= 5


def test_the_meter_counts_each_prompt_once_and_every_new_token(bench: Bench) -> None:
    request = GenerateRequest(model="tiny", prompt="12345", n=4, max_tokens=6, seed=1)
    result, ctx = bench.run(generate, request)
    assert ctx.meter.prompt_tokens == 5
    assert ctx.meter.completion_tokens == sum(choice.tokens for choice in result.choices)
    assert ctx.meter.device_s > 0
    assert ctx.meter.load_s > 0
    assert (ctx.meter.base, ctx.meter.adapter) == ("tiny", None)
    assert bench.announced.states == [State.RUNNING]


def test_a_streamed_answer_is_the_sum_of_its_pieces(bench: Bench) -> None:
    request = GenerateRequest(model="tiny", prompts=PROMPTS[:2], n=2, max_tokens=60, stream=True, seed=1)
    result, _ = bench.run(generate, request)
    texts = {(choice.prompt, choice.index): "" for choice in result.choices}
    for event in bench.announced.events:
        if isinstance(event, TextProgress):
            texts[event.prompt, event.index] += event.text
    assert [texts[choice.prompt, choice.index] for choice in result.choices] == [
        choice.text for choice in result.choices
    ]


def test_the_last_count_of_answers_is_all_of_them(bench: Bench) -> None:
    bench.run(generate, GenerateRequest(model="tiny", prompts=PROMPTS, n=4, max_tokens=4))
    counts = [event for event in bench.announced.events if isinstance(event, CountProgress)]
    assert (counts[-1].done, counts[-1].total, counts[-1].unit) == (20, 20, "answers")


def test_an_answer_fills_the_window_to_its_last_token(bench: Bench) -> None:
    request = GenerateRequest(model="tiny", prompt="x" * 28, max_tokens=WINDOW_TOKENS - 28, temperature=0)
    result, _ = bench.run(generate, request)
    assert len(result.choices) == 1


def test_a_prompt_beyond_the_window_is_refused_with_all_numbers(bench: Bench) -> None:
    request = GenerateRequest(model="tiny", prompts=("fits", "x" * 100), max_tokens=WINDOW_TOKENS - 99)
    with pytest.raises(PromptTooLong, match="100 tokens and max_tokens is 29; the model's window is 128"):
        bench.run(generate, request)


def test_a_missing_model_is_named(bench: Bench) -> None:
    with pytest.raises(ModelNotFound, match="absent"):
        bench.run(generate, GenerateRequest(model="absent", prompt="x"))


def test_a_cancelled_request_stops_all_its_rows(bench: Bench) -> None:
    request = GenerateRequest(model="tiny", prompts=PROMPTS, n=50, max_tokens=100, stream=True, seed=3)

    def cancel_at_the_first_text(ctx: JobContext) -> None:
        def listen(_: ProgressEvent) -> None:
            bench.announced.listen = lambda _: None
            # The context is locked while it announces, so another thread stops it, as in a worker.
            Thread(target=ctx.stop, args=(JobCancelled("by its owner"),)).start()

        bench.announced.listen = listen

    with pytest.raises(JobCancelled):
        bench.run(generate, request, cancel_at_the_first_text)
    finished = [event for event in bench.announced.events if isinstance(event, CountProgress)]
    assert not finished or finished[-1].done < finished[-1].total
    bench.run(generate, GenerateRequest(model="tiny", prompt="next", max_tokens=2))


def test_a_cancel_that_keeps_what_there_is_leaves_the_text_so_far(bench: Bench) -> None:
    request = GenerateRequest(model="tiny", prompts=PROMPTS[:2], n=2, max_tokens=100, stream=True, seed=3)
    contexts: list[JobContext] = []

    def cancel_at_the_first_text(ctx: JobContext) -> None:
        def listen(_: ProgressEvent) -> None:
            bench.announced.listen = lambda _: None
            Thread(target=ctx.stop, args=(JobCancelled("by its owner", keep_partial=True),)).start()

        contexts.append(ctx)
        bench.announced.listen = listen

    with pytest.raises(JobCancelled, match="by its owner"):
        bench.run(generate, request, cancel_at_the_first_text)
    [ctx] = contexts
    assert isinstance(ctx.partial, GenerateResult)
    streamed = {(prompt, index): "" for prompt in range(2) for index in range(2)}
    for event in bench.announced.events:
        if isinstance(event, TextProgress):
            streamed[event.prompt, event.index] += event.text
    assert {(choice.prompt, choice.index): choice.text for choice in ctx.partial.choices} == streamed
    assert ctx.meter.completion_tokens == sum(choice.tokens for choice in ctx.partial.choices)
    whole, _ = bench.run(generate, request)
    assert all(full.text.startswith(part.text) for full, part in zip(whole.choices, ctx.partial.choices, strict=True))
    assert any(full.text != part.text for full, part in zip(whole.choices, ctx.partial.choices, strict=True))


class Watching(Engine):
    """Counts the rows that are not answered yet, and keeps what it was given."""

    rows = most = 0

    def submit(
        self, model: LoadedModel, prompt_ids: Sequence[int], sampling: Sampling, **given: Any
    ) -> "asyncio.Future[Completion]":
        self.rows += 1
        self.most = max(self.most, self.rows)
        self.prompts.append(prompt_ids)
        self.priorities.add(given["priority"])
        future = super().submit(model, prompt_ids, sampling, **given)
        future.add_done_callback(self._left)
        return future

    def __init__(self, max_rows: int) -> None:
        super().__init__(max_rows=max_rows)
        self.prompts: list[Sequence[int]] = []
        self.priorities: set[Priority] = set()

    def _left(self, _: object) -> None:
        self.rows -= 1


def test_a_request_for_many_answers_asks_for_a_few_at_once_and_shares_its_prompts_tokens(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as trainer, Watching(max_rows=4) as engine:
        bench = Bench(tmp_path, engine, trainer)
        save_tiny_model(bench.models_dir / "tiny")
        request = GenerateRequest(
            model="tiny", prompts=PROMPTS, n=30, max_tokens=2, temperature=1.0, seed=4, priority=Priority.BATCH
        )
        result, _ = bench.run(generate, request)
    assert [(choice.prompt, choice.index) for choice in result.choices] == [
        (prompt, index) for prompt in range(5) for index in range(30)
    ]
    assert engine.most == ASKED_ROWS * 4
    assert len({id(ids) for ids in engine.prompts}) == len(PROMPTS)
    assert engine.priorities == {Priority.BATCH}


def test_a_cancel_that_keeps_what_there_is_asks_for_no_more_answers(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as trainer, Watching(max_rows=2) as engine:
        bench = Bench(tmp_path, engine, trainer)
        save_tiny_model(bench.models_dir / "tiny")
        contexts: list[JobContext] = []

        def cancel(ctx: JobContext) -> None:
            contexts.append(ctx)
            ctx.stop(JobCancelled("by its owner", keep_partial=True))

        with pytest.raises(JobCancelled):
            bench.run(generate, GenerateRequest(model="tiny", prompts=PROMPTS, n=100, max_tokens=2), cancel)
    assert isinstance(contexts[0].partial, GenerateResult)
    assert len(contexts[0].partial.choices) == 500
    assert len(engine.prompts) == ASKED_ROWS * 2
