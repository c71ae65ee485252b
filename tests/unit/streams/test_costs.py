"""Costs: in proportion to the tokens of a request, and never nothing."""

from hypothesis import given

from schemas.requests import (
    Dataset,
    EvaluateRequest,
    FineTuneRequest,
    GenerateRequest,
    Hyperparameters,
    Message,
    Record,
    Request,
)
from streams.costs import EXAMPLE_TOKENS, EXAMPLES, MOST, cost_of
from tests.unit.schemas.strategies import EVALUATE, FINETUNE, GENERATE


@given(GENERATE | FINETUNE | EVALUATE)
def test_every_request_has_a_cost_that_the_database_can_keep(request: Request) -> None:
    assert 1 <= cost_of(request) <= MOST


def test_generation_costs_what_it_may_write_for_each_prompt_and_answer() -> None:
    request = GenerateRequest(model="m", prompts=("x" * 40, "x" * 40), n=3, max_tokens=100)
    assert cost_of(request) == 2 * 40 / 4 + 2 * 3 * 100


def test_a_conversation_costs_its_turns_and_its_answer() -> None:
    turns = (Message("user", "x" * 400), Message("assistant", "x" * 40), Message("user", "x" * 40))
    assert cost_of(GenerateRequest(model="m", messages=turns, max_tokens=16)) == 120 + 16


def test_training_costs_its_steps_where_they_are_given() -> None:
    options = Hyperparameters(max_steps=10, batch_size=8, max_length=64)
    assert cost_of(FineTuneRequest(model="m", dataset=Dataset(uri="x"), hyperparameters=options)) == 10 * 8 * 64


def test_training_costs_its_epochs_over_the_examples_otherwise() -> None:
    inline = Dataset(records=(Record(prompt="x" * 30, completion="x" * 10),) * 5)
    options = Hyperparameters(epochs=3)
    assert cost_of(FineTuneRequest(model="m", dataset=inline, hyperparameters=options)) == 3 * 5 * 10
    assert cost_of(FineTuneRequest(model="m", dataset=Dataset(uri="x"))) == EXAMPLES * EXAMPLE_TOKENS


def test_an_evaluation_against_a_baseline_costs_twice() -> None:
    inline = Dataset(records=(Record(prompt="x" * 30, completion="x" * 10),) * 5)
    alone = EvaluateRequest(model="m", dataset=inline, max_tokens=10)
    assert cost_of(alone) == 5 * (10 + 10)
    assert cost_of(EvaluateRequest(model="m", dataset=inline, max_tokens=10, baseline="b")) == 2 * cost_of(alone)
