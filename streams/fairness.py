"""Who is next among those who share: deficit round robin, whose empty rounds are skipped.

Shreedhar and Varghese (1996), in the form that Linux' fq_codel uses: each round grants a member a quantum,
it is served while it has credit left, and what it took too much it owes to later rounds. Between any two
that always want something, what they got differs by less than the quantum and the largest cost together.

A member that owes many rounds would be passed over as many times. Instead the round in which it has credit
again is computed, and members wait in a heap by that: a decision takes O(log members) whatever things cost.
"""

import heapq
from typing import Final

#: Members that left are remembered as long as they owe something. They are looked through when there are twice as
#: many as were left the last time, and so many more.
SLACK: Final = 16
#: Of more than so many those are forgotten that owe the least: names are anybody's to choose.
MOST_LEFT: Final = 4_096


class _Turn:
    """When a member is next: in which round, at which place of it, and with how much credit."""

    __slots__ = ("credit", "place", "round")

    def __init__(self, round_: int, place: int, credit: int) -> None:
        self.round = round_
        self.place = place
        self.credit = credit


class Turns:
    """Members that want to be served, by name; costs are positive whole numbers in the quantum's unit."""

    __slots__ = ("_forget_at", "_heap", "_left", "_places", "_quantum", "_round", "_turns")

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._round = 0
        self._places = 0
        self._turns: dict[str, _Turn] = {}
        # An entry is valid while it says what the member's turn says.
        self._heap: list[tuple[int, int, str]] = []
        self._left: dict[str, _Turn] | None = None
        self._forget_at = SLACK

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, member: str) -> bool:
        return member in self._turns

    def join(self, member: str) -> None:
        """Let a member wait for its turn, at the end of the present round; what it owes it still owes."""
        if member in self._turns:
            return
        turn = self._left.pop(member, None) if self._left else None
        if turn is None or turn.round < self._round:
            turn = _Turn(self._round, 0, self._quantum)
        self._places += 1
        turn.place = self._places
        self._turns[member] = turn
        heapq.heappush(self._heap, (turn.round, turn.place, member))

    def leave(self, member: str) -> None:
        """Let a member wait no more."""
        turn = self._turns.pop(member, None)
        if turn is None:
            return
        if turn.round > self._round or turn.credit < self._quantum:
            if self._left is None:
                self._left = {}
            self._left[member] = turn
            self._forget()
        if len(self._heap) > 2 * len(self._turns) + SLACK:
            self._heap = [entry for entry in self._heap if self._is_valid(entry)]
            heapq.heapify(self._heap)

    def first(self) -> str | None:
        """Whose turn it is."""
        while self._heap:
            entry = self._heap[0]
            if self._is_valid(entry):
                self._round = max(self._round, entry[0])
                return entry[2]
            heapq.heappop(self._heap)
        return None

    def charge(self, member: str, cost: int) -> None:
        """Take the cost of what a member got from its credit; without any left it waits for a later round."""
        turn = self._turns[member]
        turn.credit -= cost
        if turn.credit <= 0:
            rounds = -turn.credit // self._quantum + 1
            turn.credit += rounds * self._quantum
            turn.round += rounds
            entry = (turn.round, turn.place, member)
            if self._heap[0][2] == member:
                heapq.heapreplace(self._heap, entry)
            else:
                heapq.heappush(self._heap, entry)

    def order(self, member: str) -> tuple[int, int]:
        """A member's place among the others: the least is first."""
        turn = self._turns[member]
        return turn.round, turn.place

    def soonest(self, most: int) -> list[str]:
        """Some members whose turn is near, about in their order."""
        near: dict[str, None] = {}
        for entry in self._heap:
            if len(near) >= most:
                break
            if self._is_valid(entry):
                near[entry[2]] = None
        return list(near)

    def _is_valid(self, entry: tuple[int, int, str]) -> bool:
        turn = self._turns.get(entry[2])
        return turn is not None and turn.round == entry[0] and turn.place == entry[1]

    def _forget(self) -> None:
        if self._left and len(self._left) > self._forget_at:
            owing = [item for item in self._left.items() if item[1].round >= self._round]
            self._left = dict(heapq.nlargest(MOST_LEFT, owing, key=lambda item: item[1].round))
            self._forget_at = 2 * len(self._left) + SLACK
