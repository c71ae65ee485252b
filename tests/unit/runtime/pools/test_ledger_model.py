"""The bookkeeping against a model: a stack of numbers, a set, and a queue."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.pools.ledger import Ledger, Limits, Place, Waiter

CHECK_S: Final = 1.0
IDLE_S: Final = 10.0
AGE_S: Final = 40.0


#: Most borrows end well; if half of them failed, hardly anything would ever lie idle.
SELDOM: Final = st.sampled_from([False, False, False, False, True])


class Pools(RuleBasedStateMachine):
    """What any order of borrows, failures, waits and closings does to places; numbers are connections."""

    @initialize(size=st.integers(1, 4), warm=st.integers(0, 1), waiting=st.integers(0, 3))
    def open(self, size: int, warm: int, waiting: int) -> None:
        limits = Limits(size=size, warm=warm, waiting=waiting, idle_s=IDLE_S, age_s=AGE_S, check_after_s=CHECK_S)
        self.limits = limits
        self.ledger: Ledger[int] = Ledger("model", limits)
        self.now_s = 0.0
        self.opened = 0
        #: The model. Idle connections by number, with the time since when, the one used last at the end.
        self.idle: list[tuple[int, float]] = []
        #: What borrowers have; None: no connection yet.
        self.held: dict[Place[int], int | None] = {}
        self.queue: list[Waiter[int]] = []
        self.woken: list[int] = []

    @rule(seconds=st.sampled_from([0.1, 2.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def borrow(self) -> None:
        place = self.ledger.take("someone", self.now_s)
        if self.idle:
            number, _ = self.idle.pop()
            assert place is not None
            assert place.connection == number
            self.held[place] = number
        elif len(self.held) < self.limits.size:
            assert place is not None
            assert not place.open
            self.held[place] = None
        else:
            assert place is None
            self.wait()

    def wait(self) -> None:
        number = len(self.queue)
        waiter = self.ledger.wait(lambda: self.woken.append(number), "waiter", self.now_s)
        if len(self.queue) < self.limits.waiting:
            assert waiter is not None
            self.queue.append(waiter)
        else:
            assert waiter is None

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def a_waiter_leaves(self, data: st.DataObject) -> None:
        waiter = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.ledger.leave(waiter, self.now_s, timed_out=data.draw(st.booleans()))
        assert waiter.place is None

    @precondition(lambda self: None in self.held.values())
    @rule(fails=SELDOM)
    def open_connections(self, fails: bool) -> None:
        for place in [place for place, number in self.held.items() if number is None]:
            self.open_a_connection(place, fails)

    def open_a_connection(self, place: Place[int], fails: bool) -> None:
        if fails:
            self.ledger.failed()
            self.leave_empty(place)
        else:
            self.opened += 1
            self.ledger.opened(place, self.opened, self.now_s)
            self.held[place] = self.opened

    @rule(seconds=st.sampled_from([0.1, 2.0]))
    def all_end_well(self, seconds: float) -> None:
        for place, number in list(self.held.items()):
            if number is not None and place in self.held:
                self.now_s += seconds
                self.end(place, broken=False)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), broken=SELDOM)
    def end_a_borrow(self, data: st.DataObject, broken: bool) -> None:
        self.end(data.draw(st.sampled_from([place for place, number in self.held.items() if number])), broken=broken)

    def end(self, place: Place[int], *, broken: bool) -> None:
        if broken:
            self.ledger.shut(place, "broken")
            self.leave_empty(place)
            return
        number = self.held.pop(place)
        assert number is not None
        self.ledger.give_back(place, self.now_s)
        if self.queue:
            waiter = self.queue.pop(0)
            assert waiter.place is place
            self.held[place] = number
        else:
            self.idle.append((number, self.now_s))

    def leave_empty(self, place: Place[int]) -> None:
        del self.held[place]
        self.ledger.vacate(place, self.now_s)
        if self.queue:
            granted = self.queue.pop(0).place
            assert granted is not None
            assert not granted.open
            self.held[granted] = None

    @rule()
    def retire(self) -> None:
        retired = self.ledger.retire(self.now_s)
        gone = {place.connection for place, _ in retired}
        for place, reason in retired:
            self.ledger.shut(place, reason)
            self.ledger.vacate(place, self.now_s)
        unused = {number for number, since_s in self.idle if self.now_s - since_s >= IDLE_S}
        # None is left that nobody used for long, but for the warm ones.
        kept = [(number, since_s) for number, since_s in self.idle if number not in gone]
        assert len([number for number, _ in kept if number in unused]) <= self.limits.warm
        self.idle = kept

    @invariant()
    def the_numbers_are_the_models(self) -> None:
        stats = self.ledger.stats()
        assert (stats.idle, stats.in_use, stats.waiting) == (len(self.idle), len(self.held), len(self.queue))
        assert stats.size == stats.idle + stats.in_use <= self.limits.size
        assert stats.created - sum(stats.closed.values()) == len(self.idle) + sum(map(bool, self.held.values()))
        assert not (self.queue and self.idle), "somebody waits although a connection lies idle"
        assert not (self.queue and len(self.held) < self.limits.size), "somebody waits although there is room"

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for place in self.ledger.close():
            self.ledger.shut(place, "pool closed")
            self.ledger.vacate(place, self.now_s)
        for place, number in self.held.items():
            if number is not None:
                self.ledger.shut(place, "pool closed")
            self.ledger.vacate(place, self.now_s)
        assert self.ledger.empty
        assert self.ledger.stats().waiting == 0


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
