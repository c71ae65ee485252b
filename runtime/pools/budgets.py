"""The bookkeeping of devices' memory: who reserved how much of which, and who waits. Pure: no lock, clock or I/O.

Nothing is ever promised twice. Reservations are granted in the order in which they were asked for, with one exception:
one that could only use devices for which nobody before it waits does not wait for those before it. So a large one is
not overtaken for ever by small ones, and does not hold up the devices that are too small for it.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from runtime.pools.stats import Waits, WaitStats


class Device(Struct, frozen=True, kw_only=True):
    """Something with memory; ``index`` as its kind numbers it."""

    index: int
    memory_bytes: int
    kind: str = "cuda"
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}"


class DeviceStats(Struct, frozen=True, kw_only=True):
    """One device's memory at this moment; ``peak_bytes`` is the most that was reserved at once."""

    device: Device
    reserved_bytes: int
    peak_bytes: int
    reservations: int


class DevicePoolStats(Struct, frozen=True, kw_only=True):
    """A device pool at one moment, and since it was made."""

    devices: tuple[DeviceStats, ...]
    waiting: int
    granted: int
    timeouts: int
    refused: int
    abandoned: int
    waits: WaitStats


class Claim:
    """One that wants memory; ``wake`` is called when ``device`` is granted, and says whether anybody heard it."""

    __slots__ = ("device", "holder", "index", "since_s", "wake", "wanted_bytes")

    def __init__(self, wanted_bytes: int | None, index: int | None, holder: object, since_s: float) -> None:
        #: None: a whole device.
        self.wanted_bytes = wanted_bytes
        self.index = index
        self.holder = holder
        self.since_s = since_s
        self.wake: Callable[[], bool] = _heard
        self.device: Device | None = None

    def bytes_on(self, device: Device) -> int:
        """What it would reserve there."""
        return device.memory_bytes if self.wanted_bytes is None else self.wanted_bytes

    def could_use(self, device: Device) -> bool:
        """Whether it would fit if it were alone there."""
        return self.index in (None, device.index) and self.bytes_on(device) <= device.memory_bytes


class Budgets:
    """The memory of some devices."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = tuple(devices)
        self._free = {device: device.memory_bytes for device in devices}
        self._least_free = dict(self._free)
        #: By claim, the moment since when it has its device.
        self.held: dict[Claim, float] = {}
        self._waiting: list[Claim] = []
        self._waits = Waits()
        self._granted = self._at_once = 0
        self.timeouts = self.refused = self.abandoned = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def largest_bytes(self, index: int | None) -> int:
        """The memory of the largest device that may be used."""
        return max((device.memory_bytes for device in self._devices if index in (None, device.index)), default=0)

    def ask(self, claim: Claim, now_s: float) -> bool:
        """Whether it has its device at once; else it waits."""
        self._waiting.append(claim)
        self._serve(now_s)
        if claim.device is not None:
            self._at_once += 1
        return claim.device is not None

    def leave(self, claim: Claim, now_s: float) -> None:
        """Wait no longer. A claim that has its device by now has to release it, or to use it."""
        if claim in self._waiting:
            self._waiting.remove(claim)
            self._waits.add(now_s - claim.since_s)
            self._serve(now_s)  # it may have been the one that held up the others

    def release(self, claim: Claim, now_s: float) -> None:
        """Give back what was granted; a second time does nothing."""
        if self.held.pop(claim, None) is not None and claim.device is not None:
            self._free[claim.device] += claim.bytes_on(claim.device)
            self._serve(now_s)

    def stats(self) -> DevicePoolStats:
        """The numbers of this moment."""
        return DevicePoolStats(
            devices=tuple(map(self._stats_of, self._devices)),
            waiting=self.waiting,
            granted=self._granted,
            timeouts=self.timeouts,
            refused=self.refused,
            abandoned=self.abandoned,
            waits=self._waits.stats(self._at_once),
        )

    def _stats_of(self, device: Device) -> DeviceStats:
        return DeviceStats(
            device=device,
            reserved_bytes=device.memory_bytes - self._free[device],
            peak_bytes=device.memory_bytes - self._least_free[device],
            reservations=sum(claim.device == device for claim in self.held),
        )

    def _serve(self, now_s: float) -> None:
        """Grant what can be granted, first come, first served on each device."""
        spoken_for: set[Device] = set()
        for claim in list(self._waiting):
            usable = [device for device in self._devices if claim.could_use(device)]
            device = self._best(claim, (device for device in usable if device not in spoken_for))
            if device is None:
                spoken_for.update(usable)
                if len(spoken_for) == len(self._devices):
                    return
                continue
            self._waiting.remove(claim)
            self._grant(claim, device, now_s)

    def _best(self, claim: Claim, devices: Iterable[Device]) -> Device | None:
        """Where it fits and leaves the least free: the large gaps are for the large reservations."""
        fitting = [device for device in devices if claim.bytes_on(device) <= self._free[device]]
        return min(
            fitting, key=lambda device: (self._free[device] - claim.bytes_on(device), device.index), default=None
        )

    def _grant(self, claim: Claim, device: Device, now_s: float) -> None:
        claim.device = device
        if not claim.wake():  # its event loop is closed: nobody would ever release it
            claim.device = None
            return
        self._free[device] -= claim.bytes_on(device)
        self._least_free[device] = min(self._least_free[device], self._free[device])
        self.held[claim] = now_s
        self._granted += 1
        if now_s > claim.since_s:
            self._waits.add(now_s - claim.since_s)


def _heard() -> bool:
    return True
