"""The bookkeeping of devices' memory: nothing promised twice, nobody overtaken, nothing left unused."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.pools.budgets import Budgets, Claim, Device

SIZES: Final = st.lists(st.sampled_from([4, 8, 8, 16]), min_size=1, max_size=3)


class Devices(RuleBasedStateMachine):
    """Reservations of any size that come and go."""

    @initialize(sizes=SIZES)
    def open(self, sizes: list[int]) -> None:
        self.devices = [Device(index=index, memory_bytes=size) for index, size in enumerate(sizes)]
        self.budgets = Budgets(self.devices)
        self.now_s = 0.0
        self.held: list[Claim] = []
        self.queue: list[Claim] = []

    @rule(wanted=st.one_of(st.none(), st.integers(0, 16)), pinned=st.booleans(), which=st.integers(0, 2))
    def ask(self, wanted: int | None, pinned: bool, which: int) -> None:
        index = self.devices[which % len(self.devices)].index if pinned else None
        if (wanted or 0) > self.budgets.largest_bytes(index):
            return
        self.now_s += 1
        claim = Claim(wanted, index, "someone", self.now_s)
        may = self.may(claim, self.queue)
        assert self.budgets.ask(claim, self.now_s) is bool(may)
        (self.held if may else self.queue).append(claim)
        assert claim.device is None or claim.device in may

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        claim = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.budgets.release(claim, self.now_s)
        self.budgets.release(claim, self.now_s)  # a second time does nothing
        self.served()

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        claim = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.budgets.leave(claim, self.now_s)
        assert claim.device is None
        self.served()

    def served(self) -> None:
        self.held += [claim for claim in self.queue if claim.device]
        self.queue = [claim for claim in self.queue if not claim.device]

    def free(self, device: Device) -> int:
        return device.memory_bytes - sum(claim.bytes_on(device) for claim in self.held if claim.device == device)

    def may(self, claim: Claim, before: list[Claim]) -> list[Device]:
        """Where it fits now and nobody before it waits for that device."""
        return [
            device
            for device in self.devices
            if claim.could_use(device)
            and claim.bytes_on(device) <= self.free(device)
            and not any(other.could_use(device) for other in before)
        ]

    @invariant()
    def nothing_is_promised_twice(self) -> None:
        if hasattr(self, "budgets"):
            assert all(self.free(device) >= 0 for device in self.devices)
            for each in self.budgets.stats().devices:
                assert each.device.memory_bytes - each.reserved_bytes == self.free(each.device)
                assert each.reserved_bytes <= each.peak_bytes <= each.device.memory_bytes

    @invariant()
    def nobody_waits_for_what_it_could_have(self) -> None:
        if hasattr(self, "budgets"):
            for place, claim in enumerate(self.queue):
                assert not self.may(claim, self.queue[:place])

    def teardown(self) -> None:
        if not hasattr(self, "budgets"):
            return
        while self.held:
            self.budgets.release(self.held.pop(), self.now_s)
            self.served()
        assert not self.queue
        assert all(each.reserved_bytes == 0 for each in self.budgets.stats().devices)


TestDevices = Devices.TestCase
TestDevices.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
