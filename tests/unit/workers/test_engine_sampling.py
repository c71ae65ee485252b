"""How tokens are drawn."""

from collections import Counter
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.sampling import Picker, Sampling

CPU = torch.device("cpu")
#: Probabilities 0.5, 0.3, 0.15 and 0.05.
LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def draw(sampling: Sampling, times: int, logits: torch.Tensor = LOGITS) -> Counter[int]:
    picker = Picker([(sampling, sampling.dice())], CPU)
    return Counter(int(picker.pick(logits.unsqueeze(0))) for _ in range(times))


def test_temperature_0_takes_the_likeliest_token() -> None:
    assert draw(Sampling(1), 5) == {0: 5}


@pytest.mark.parametrize("temperature", [1e-30, 1e-6])
def test_a_tiny_temperature_takes_the_likeliest_token_even_of_large_logits(temperature: float) -> None:
    assert draw(Sampling(1, temperature=temperature, seed=1), 5, logits=LOGITS * 1e4) == {0: 5}


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    counts = draw(Sampling(1, temperature=1.0, seed=3), 4_000)
    for token, likelihood in enumerate(LOGITS.exp().tolist()):
        # Four standard deviations of a binomial count.
        assert abs(counts[token] / 4_000 - likelihood) < 4 * (likelihood * (1 - likelihood) / 4_000) ** 0.5


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, {0}), (0.5, {0}), (0.51, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_a_nucleus_is_the_fewest_tokens_that_reach_top_p(top_p: float, kept: set[int]) -> None:
    assert set(draw(Sampling(1, temperature=1.0, top_p=top_p, seed=5), 300)) == kept


@given(seed=st.integers(0, 2**63 - 1), other=st.floats(0.05, 0.95))
def test_a_neighbour_with_a_nucleus_does_not_change_a_draw(seed: int, other: float) -> None:
    mine, neighbour = Sampling(1, temperature=0.9, seed=seed), Sampling(1, temperature=1.3, top_p=other, seed=1)
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed))
    alone = Picker([(mine, mine.dice())], CPU).pick(logits[:1])
    together = Picker([(mine, mine.dice()), (neighbour, neighbour.dice())], CPU).pick(logits)
    assert together[0] == alone[0]


def test_choices_of_one_seed_are_drawn_apart_and_repeat() -> None:
    first, second = Sampling(1, seed=9, choice=0), Sampling(1, seed=9, choice=1)
    assert first.dice().random() == first.dice().random()
    assert first.dice().random() != second.dice().random()


def test_without_a_seed_each_answer_has_its_own_luck() -> None:
    assert Sampling(1).dice().random() != Sampling(1).dice().random()


def test_greedy_and_drawn_rows_share_a_batch() -> None:
    greedy, drawn = Sampling(1), Sampling(1, temperature=1.0, seed=0)
    picker = Picker([(greedy, Random()), (drawn, drawn.dice()), (greedy, Random())], CPU)
    assert {int(picker.pick(LOGITS.expand(3, -1))[index]) for index in (0, 2) for _ in range(20)} == {0}


def test_logits_that_are_no_numbers_give_a_token_all_the_same() -> None:
    """A broken model's answer is its owner's trouble; it must not end the batch."""
    tokens = Picker([(s := Sampling(1, temperature=1.0, top_p=0.5, seed=0), s.dice())], CPU).pick(
        torch.full((1, 4), torch.nan)
    )
    assert 0 <= tokens.item() < 4
