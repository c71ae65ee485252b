"""Lanes, driven step by step in the test's own thread."""

import asyncio
from collections.abc import Callable, Iterator
from functools import cache
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import JobCancelled
from tests.unit.workers.tiny_loaded import ARCHITECTURES, EOS, alone, tiny_loaded
from workers.engine.kvcache import capacity
from workers.engine.lane import Lane
from workers.engine.row import Completion, CutShort, Row
from workers.engine.sampling import Sampling
from workers.models import LoadedModel

#: Step at which a row joins, its prompt's length and seed, and its longest answer.
Arrival = tuple[int, int, int, int]
arrivals = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 40), st.integers(0, 3), st.integers(1, 24)), min_size=1, max_size=9
)


def go_on() -> None:
    """A job that nobody stops."""


@pytest.fixture
def row() -> Iterator[Callable[..., Row]]:
    """Makes rows whose futures belong to a loop that does not run."""
    loop = asyncio.new_event_loop()

    def make(model: LoadedModel, prompt: tuple[int, ...], sampling: Sampling, check: Callable[[], None] = go_on) -> Row:
        return Row(0, model, prompt, sampling, check, None, loop.create_future())

    yield make
    loop.close()


@torch.inference_mode()
def run(lane: Lane, joining: list[tuple[int, Row]] | None = None) -> dict[Row, Completion | BaseException]:
    """Step the lane until it is empty; rows join at their steps."""
    arriving = sorted(joining or [], key=lambda entry: entry[0])
    outcomes: dict[Row, Completion | BaseException] = {}
    step = 0
    while arriving or lane.active:
        while arriving and arriving[0][0] <= step:
            lane.joining.append(arriving.pop(0)[1])
        lane.step()
        outcomes.update(lane.take_ended())
        step += 1
    return outcomes


@cache
def prompt_of(tokens: int, seed: int) -> tuple[int, ...]:
    dice = Random(f"{tokens}/{seed}")
    return tuple(dice.randrange(3, 259) for _ in range(tokens))


@cache
def answer_alone(model: LoadedModel, prompt: tuple[int, ...], max_tokens: int) -> list[int]:
    return alone(model, prompt, max_tokens)


def tokens_of(outcome: Completion | BaseException) -> list[int]:
    assert isinstance(outcome, Completion), outcome
    return list(outcome.token_ids)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(arriving=arrivals)
def test_greedy_answers_are_those_of_generate_whatever_shares_the_batch(
    architecture: str, arriving: list[Arrival]
) -> None:
    model = tiny_loaded(architecture)
    loop = asyncio.new_event_loop()
    rows = [
        (step, Row(0, model, prompt_of(tokens, seed), Sampling(longest), go_on, None, loop.create_future()))
        for step, tokens, seed, longest in arriving
    ]
    outcomes = run(Lane(model), rows)
    for _, made in rows:
        wanted = answer_alone(model, made.prompt_ids, made.sampling.max_tokens)
        assert tokens_of(outcomes[made]) == wanted
    loop.close()


def test_a_random_model_gives_answers_that_tell_prompts_apart() -> None:
    """What the comparison with generate would not see if all answers were alike."""
    model = tiny_loaded()
    answers = {tuple(answer_alone(model, prompt_of(5, seed), 10)) for seed in range(4)}
    assert len(answers) == 4


def test_an_answer_ends_at_the_end_token_without_it(row: Callable[..., Row]) -> None:
    model = tiny_loaded("qwen2")
    rows = [row(model, prompt_of(tokens, seed), Sampling(60)) for tokens in range(1, 40) for seed in range(4)]
    lane = Lane(model)
    outcomes = run(lane, [(0, made) for made in rows])
    stopped = [outcome for outcome in outcomes.values() if isinstance(outcome, Completion)]
    ended = [outcome for outcome in stopped if outcome.finish_reason == "stop"]
    assert ended
    assert all(EOS not in outcome.token_ids and len(outcome.token_ids) < 60 for outcome in ended)


def test_a_full_answer_has_max_tokens_and_ends_for_its_length(row: Callable[..., Row]) -> None:
    model = tiny_loaded()
    made = row(model, prompt_of(3, 0), Sampling(1))
    outcome = run(Lane(model), [(0, made)])[made]
    assert isinstance(outcome, Completion)
    assert (len(outcome.token_ids), outcome.finish_reason, outcome.prompt_tokens) == (1, "length", 3)


def test_a_stopped_job_leaves_at_the_next_step_and_the_others_go_on(row: Callable[..., Row]) -> None:
    model = tiny_loaded()
    steps: list[int] = []

    def stop_at_the_fifth_look() -> None:
        steps.append(1)
        if len(steps) == 5:
            raise JobCancelled("enough")

    stopped = row(model, prompt_of(30, 1), Sampling(50), stop_at_the_fifth_look)
    other = row(model, prompt_of(6, 2), Sampling(20))
    outcomes = run(Lane(model), [(0, stopped), (0, other)])
    assert isinstance(outcomes[stopped], JobCancelled)
    assert len(stopped.token_ids) == 5  # one of the prefill, and one a step
    assert tokens_of(outcomes[other]) == answer_alone(model, other.prompt_ids, 20)


def test_a_cancelled_row_gives_its_room_in_the_batch_and_the_cache_back_at_the_next_step(
    row: Callable[..., Row],
) -> None:
    model, lane = tiny_loaded(), Lane(tiny_loaded())
    wishes: list[JobCancelled] = []

    def check() -> None:
        if wishes:
            raise wishes[0]

    cancelled, other = row(model, prompt_of(30, 1), Sampling(50), check), row(model, prompt_of(6, 2), Sampling(50))
    lane.joining += [cancelled, other]
    with torch.inference_mode():
        lane.step()
        before, tokens = lane.reserved(), len(cancelled.token_ids)
        wishes.append(JobCancelled("by its owner"))
        lane.step()
    assert list(lane.take_ended()) == [(cancelled, wishes[0])]
    assert len(cancelled.token_ids) == tokens
    assert lane.rows == [other]
    assert capacity(1, other.longest) <= lane.reserved() < before
    assert {layer.rows for layer in lane._cache.layers} == {1}
    assert lane._cache.width == other.cached


@pytest.mark.parametrize("stop", [(), ("never",)], ids=["unwatched", "watched"])
def test_a_cancel_that_keeps_what_there_is_gets_the_text_so_far(stop: tuple[str, ...], row: Callable[..., Row]) -> None:
    model = tiny_loaded()
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) == 8:
            raise JobCancelled("enough", keep_partial=True)

    cut = row(model, prompt_of(30, 1), Sampling(50, stop=stop), check)
    other = row(model, prompt_of(6, 2), Sampling(20))
    outcome = run(Lane(model), [(0, cut), (0, other)])[cut]
    assert isinstance(outcome, CutShort)
    assert list(outcome.completion.token_ids) == answer_alone(model, cut.prompt_ids, 50)[:8]
    assert outcome.completion.text == model.decode(outcome.completion.token_ids)
    assert outcome.completion.device_s > 0


def test_a_row_that_waits_has_no_text_to_keep(row: Callable[..., Row]) -> None:
    lane = Lane(tiny_loaded())

    def check() -> None:
        raise JobCancelled("enough", keep_partial=True)

    waiting = row(tiny_loaded(), prompt_of(30, 1), Sampling(50, stop=("never",)), check)
    lane.waiting.append(waiting)
    lane.sweep()
    [(_, outcome)] = lane.take_ended()
    assert isinstance(outcome, CutShort)
    assert (outcome.completion.text, outcome.completion.token_ids) == ("", ())


def test_rows_of_one_job_are_checked_once_a_step(row: Callable[..., Row]) -> None:
    model = tiny_loaded()
    looks: list[int] = []

    def check() -> None:
        looks.append(1)

    run(Lane(model), [(0, row(model, prompt_of(4, seed), Sampling(6), check)) for seed in range(4)])
    assert len(looks) <= 6


def test_equal_prompts_are_prefilled_once(row: Callable[..., Row]) -> None:
    model = tiny_loaded()
    shapes: list[tuple[int, ...]] = []
    hook = model.module.register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    rows = [row(model, prompt_of(20, 0), Sampling(4, temperature=1.0, seed=7, choice=choice)) for choice in range(5)]
    outcomes = run(Lane(model), [(0, made) for made in rows])
    hook.remove()
    assert shapes[0] == (1, 20)
    assert shapes[1] == (5, 1)
    assert len({tuple(tokens_of(outcomes[made])) for made in rows}) == 5


def test_prompts_of_very_different_length_are_not_padded_to_one_another(row: Callable[..., Row]) -> None:
    model = tiny_loaded()
    shapes: list[tuple[int, ...]] = []
    hook = model.module.register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    run(Lane(model), [(0, row(model, prompt_of(tokens, 0), Sampling(1))) for tokens in (100, 3, 4, 90)])
    hook.remove()
    assert shapes == [(2, 4), (2, 100)]


def test_a_seeded_draw_is_the_same_alone_and_among_others(row: Callable[..., Row]) -> None:
    model = tiny_loaded("gpt2")

    def drawn(top_p: float) -> Row:
        return row(model, prompt_of(9, 0), Sampling(20, temperature=0.8, top_p=top_p, seed=11))

    for top_p in (1.0, 0.7):
        by_itself, in_company = drawn(top_p), drawn(top_p)
        others = [
            row(model, prompt_of(30, 1), Sampling(9)),
            row(model, prompt_of(12, 2), Sampling(14, temperature=1.5, top_p=0.3, seed=1)),
        ]
        wanted = tokens_of(run(Lane(model), [(0, by_itself)])[by_itself])
        outcomes = run(Lane(model), [(0, others[0]), (1, in_company), (3, others[1])])
        assert tokens_of(outcomes[in_company]) == wanted


def test_device_time_is_shared_out_among_the_rows(row: Callable[..., Row]) -> None:
    model = tiny_loaded()
    short, long = row(model, prompt_of(5, 0), Sampling(2)), row(model, prompt_of(5, 1), Sampling(40))
    outcomes = run(Lane(model), [(0, short), (0, long)])
    brief, lengthy = outcomes[short], outcomes[long]
    assert isinstance(brief, Completion)
    assert isinstance(lengthy, Completion)
    assert 0 < brief.device_s < lengthy.device_s
