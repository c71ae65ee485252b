"""Turns: what members get who always want something, and that nobody gains by leaving."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.fairness import MOST_LEFT, SLACK, Turns

MOST = 1_000
QUANTUM = 100
#: Of each member the costs of what it wants, over and over.
wants = st.lists(st.lists(st.integers(1, MOST), min_size=1, max_size=8), min_size=2, max_size=6)


def serve(turns: Turns, costs: Sequence[Sequence[int]], times: int) -> list[Counter[str]]:
    """What each member had got after each of so many turns, while all want more."""
    got: Counter[str] = Counter()
    number: Counter[str] = Counter()
    history = []
    for index in range(len(costs)):
        turns.join(str(index))
    for _ in range(times):
        member = turns.first()
        assert member is not None
        own = costs[int(member)]
        cost = own[number[member] % len(own)]
        number[member] += 1
        turns.charge(member, cost)
        got[member] += cost
        history.append(got.copy())
    return history


def largest_difference(turns: Turns, costs: Sequence[Sequence[int]], times: int = 200) -> int:
    members = [str(member) for member in range(len(costs))]
    return max(
        max(got[member] for member in members) - min(got[member] for member in members)
        for got in serve(turns, costs, times)
    )


@settings(deadline=None)
@given(wants)
def test_two_that_always_want_something_differ_by_less_than_the_quantum_and_the_largest_cost(
    costs: list[list[int]],
) -> None:
    assert largest_difference(Turns(QUANTUM), costs) < QUANTUM + MOST


class OneEach(Turns):
    """Round robin by number: whoever wants dear things gets more."""

    def charge(self, member: str, cost: int) -> None:  # noqa: ARG002
        super().charge(member, QUANTUM)


class Forgiving(Turns):
    """Who has taken too much owes nothing."""

    def charge(self, member: str, cost: int) -> None:
        super().charge(member, min(cost, QUANTUM))


class Stuck(Turns):
    """Who has credit left keeps its turn, and its credit."""

    def charge(self, member: str, cost: int) -> None:
        """Nothing."""


@pytest.mark.parametrize("broken", [OneEach, Forgiving, Stuck])
def test_turns_that_are_not_fair_are_caught(broken: Callable[[int], Turns]) -> None:
    assert largest_difference(broken(QUANTUM), [[1], [MOST]], 3_000) >= QUANTUM + MOST


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, MOST)), max_size=200))
def test_nobody_gains_by_leaving_whenever_it_was_served(steps: list[tuple[bool, int]]) -> None:
    turns, got = Turns(QUANTUM), Counter[str]()
    turns.join("stays")
    turns.join("leaves")
    for leave, cost in steps:
        member = turns.first()
        assert member is not None
        turns.charge(member, cost)
        got[member] += cost
        if leave:
            turns.leave("leaves")
            turns.join("leaves")
    assert got["leaves"] - got["stays"] < QUANTUM + MOST


def test_somebody_who_comes_back_after_long_has_no_more_than_a_turn_s_credit() -> None:
    turns = Turns(QUANTUM)
    turns.join("stays")
    for _ in range(1_000):
        turns.charge("stays", QUANTUM)
    turns.first()
    turns.join("new")
    order = []
    for _ in range(6):
        member = turns.first()
        assert member is not None
        order.append(member)
        turns.charge(member, QUANTUM)
    assert sorted(order[:2]) == sorted(order[2:4]) == sorted(order[4:]) == ["new", "stays"]


def test_a_debt_of_many_rounds_costs_no_time() -> None:
    turns = Turns(1)
    for member in ("a", "b"):
        turns.join(member)
        turns.charge(member, 10**15)
    assert turns.first() == "a"


def test_nobody_is_next_where_nobody_waits() -> None:
    turns = Turns(QUANTUM)
    assert turns.first() is None
    turns.join("a")
    turns.leave("a")
    assert turns.first() is None
    assert len(turns) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["join", "leave", "charge"])), max_size=300))
def test_whoever_is_next_is_one_that_waits(steps: list[tuple[str, str]]) -> None:
    turns, waiting = Turns(QUANTUM), set[str]()
    for member, step in steps:
        if step == "join":
            turns.join(member)
            waiting.add(member)
        elif step == "leave":
            turns.leave(member)
            waiting.discard(member)
        elif (first := turns.first()) is not None:
            turns.charge(first, 170)
        assert (turns.first() in waiting) == bool(waiting)
        assert set(turns.soonest(9)) == waiting


def test_no_more_members_are_remembered_than_may_be_and_those_who_owe_the_most_are() -> None:
    turns = Turns(QUANTUM)
    for number in range(4 * MOST_LEFT):
        name = str(number)
        turns.join(name)
        turns.charge(name, 10 * QUANTUM * (1 + number % 2 * 100))
        turns.leave(name)
    assert turns._left is not None
    assert len(turns._left) <= 2 * MOST_LEFT + SLACK
    # Nearly all who owe little were forgotten, for as many owe a lot.
    assert sum(int(name) % 2 for name in turns._left) > 0.9 * MOST_LEFT
