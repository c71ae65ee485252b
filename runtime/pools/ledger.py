"""The bookkeeping of a pool: who has which place, who waits, what was closed and why.

Pure: it holds no lock, reads no clock, opens and closes nothing. Whoever uses it from threads holds one lock around
each call. It keeps to this: where somebody waits, nothing is idle and no place is free, so nobody is overtaken.
"""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from msgspec import Struct

from runtime.pools.errors import PoolClosed
from runtime.pools.stats import PoolStats, Reason, Waits

Connection = TypeVar("Connection")
#: Where somebody borrowed: file, line and function, innermost first.
Stack = tuple[tuple[str, int, str], ...]


class Limits(Struct, frozen=True, kw_only=True):
    """The bounds of a pool."""

    #: Connections at most, and those that stay open though nobody needs them.
    size: int = 10
    warm: int = 0
    #: Borrowers that may wait at once, and for how long each.
    waiting: int = 1_000
    timeout_s: float = 30.0
    #: A connection is replaced at this age (a tenth earlier at most, so that not all are in one moment), and closed
    #: where nobody has used it for so long and more than ``warm`` are open.
    age_s: float = 1_800.0
    idle_s: float = 300.0
    #: One that lay idle for longer is checked before it is lent.
    check_after_s: float = 1.0
    #: A borrow that takes longer is reported, once.
    overdue_s: float = 60.0
    #: The borrower's stack is captured at one borrow in so many; 0 never, 1 always. It costs some microseconds.
    stack_every: int = 0
    #: How often the pool looks after itself; ``None``: when its owner calls ``maintain``.
    maintain_every_s: float | None = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.warm <= self.size or self.size < 1 or self.waiting < 0:
            raise ValueError(f"warm <= size, 1 <= size and 0 <= waiting are needed, not {self}")


class Place(Generic[Connection]):
    """Room for one connection, and the connection, while ``open``. ``holder`` has it; None: nobody does."""

    __slots__ = (
        "connection",
        "dies_s",
        "fit_until_s",
        "holder",
        "idle_since_s",
        "lent_at_s",
        "open",
        "overdue",
        "stack",
    )
    connection: Connection

    def __init__(self) -> None:
        self.open = False
        self.dies_s = 0.0
        self.fit_until_s = 0.0
        self.idle_since_s = 0.0
        self.lent_at_s = 0.0
        self.holder: object = None
        self.stack: Stack = ()
        self.overdue = False


class Waiter(Generic[Connection]):
    """One that waits for a place; ``wake`` is called when it has one, and when the pool closes under it."""

    __slots__ = ("holder", "place", "since_s", "wake")

    def __init__(self, wake: Callable[[], None], holder: object, since_s: float) -> None:
        self.wake = wake
        self.holder = holder
        self.since_s = since_s
        self.place: Place[Connection] | None = None


class Ledger(Generic[Connection]):
    """The places of one pool. Times are of one clock, in seconds."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.limits = limits
        self.closed = False
        self._size = limits.size
        self._check_after_s = limits.check_after_s
        self._places: set[Place[Connection]] = set()
        #: The one that was used last is at the end: it is the fittest, and the others may grow old and go.
        self._idle: list[Place[Connection]] = []
        self._waiters: OrderedDict[Waiter[Connection], None] = OrderedDict()
        self._waits = Waits()
        self._closed: Counter[Reason] = Counter()
        self.borrowed = self._granted = self._created = self._failed = 0
        self._timeouts = self._refused = self._overdue = self._abandoned = 0

    def take(self, holder: object, now_s: float) -> Place[Connection] | None:
        """The place that was used last, or a new one without a connection; None: wait.

        Raises:
            PoolClosed: nobody is lent anything any more.
        """
        if self._idle:
            place = self._idle.pop()
        elif self.closed:
            raise PoolClosed(self.name)
        elif len(self._places) < self._size:
            place = self._new()
        else:
            return None
        place.holder = holder
        place.lent_at_s = now_s
        self.borrowed += 1
        return place

    def wait(self, wake: Callable[[], None], holder: object, now_s: float) -> Waiter[Connection] | None:
        """A turn after all who wait; None where as many wait as may wait. ``take`` had nothing just now."""
        if len(self._waiters) >= self.limits.waiting:
            self._refused += 1
            return None
        waiter: Waiter[Connection] = Waiter(wake, holder, now_s)
        self._waiters[waiter] = None
        return waiter

    def leave(self, waiter: Waiter[Connection], now_s: float, *, timed_out: bool) -> None:
        """Wait no longer. A waiter that has its place by now has to give it back or to use it."""
        if waiter in self._waiters:
            del self._waiters[waiter]
            self._waits.add(now_s - waiter.since_s)
            self._timeouts += timed_out

    def opened(self, place: Place[Connection], connection: Connection, now_s: float) -> None:
        """The place has a connection that is as good as new."""
        place.connection = connection
        place.open = True
        place.dies_s = now_s + self.limits.age_s * random.uniform(0.9, 1.0)
        place.idle_since_s = now_s
        place.fit_until_s = min(place.dies_s, now_s + self._check_after_s)
        self._created += 1

    def failed(self) -> None:
        """A connection could not be opened; its place is to be vacated."""
        self._failed += 1

    def shut(self, place: Place[Connection], reason: Reason) -> None:
        """The place's connection is closed, or about to be; the place stays taken until it is vacated."""
        place.open = False
        del place.connection
        self._closed[reason] += 1

    def give_back(self, place: Place[Connection], now_s: float) -> None:
        """Lend the place to whoever waits for longest, or lay it on top of the idle ones."""
        place.idle_since_s = now_s
        fit_until_s = now_s + self._check_after_s
        place.fit_until_s = fit_until_s if fit_until_s < place.dies_s else place.dies_s  # min() takes twice as long
        place.stack = ()
        place.overdue = False
        if self._waiters:
            self._grant(place, now_s)
        else:
            place.holder = None
            self._idle.append(place)

    def vacate(self, place: Place[Connection], now_s: float) -> None:
        """The place has no connection any more: room for whoever waits for longest to open one."""
        place.holder = None
        self._places.discard(place)
        if self._waiters and len(self._places) < self._size:
            self._grant(self._new(), now_s)

    def retire(self, now_s: float) -> list[tuple[Place[Connection], Reason]]:
        """Take the idle places away whose connections have to be closed; each is to be shut and vacated."""
        gone: list[tuple[Place[Connection], Reason]] = []
        spare = len(self._places) - self.limits.warm
        for place in self._idle:  # idle for longest first
            if now_s >= place.dies_s:
                gone.append((place, "too old"))
            elif spare > len(gone) and now_s - place.idle_since_s >= self.limits.idle_s:
                gone.append((place, "idle too long"))
        leaving = {place for place, _ in gone}
        self._idle = [place for place in self._idle if place not in leaving]
        return gone

    def warm_up(self, holder: object, now_s: float) -> Place[Connection] | None:
        """A new place for a connection that nobody asked for yet; None where enough are open or the pool is closed."""
        if self.closed or len(self._places) >= self.limits.warm:
            return None
        place = self._new()
        place.holder = holder
        place.lent_at_s = now_s
        return place

    def overdue(self, now_s: float) -> list[Place[Connection]]:
        """The places whose borrows take too long and were not reported yet."""
        late = [
            place
            for place in self.held()
            if not place.overdue and place.open and now_s - place.lent_at_s >= self.limits.overdue_s
        ]
        for place in late:
            place.overdue = True
        self._overdue += len(late)
        return late

    def abandoned(self) -> None:
        """A borrower is gone and has not given back."""
        self._abandoned += 1

    def close(self) -> list[Place[Connection]]:
        """Lend nothing any more and wake all who wait; answers the idle places, which are to be shut and vacated."""
        self.closed = True
        idle, self._idle = self._idle, []
        waiters, self._waiters = list(self._waiters), OrderedDict()
        for waiter in waiters:
            waiter.wake()
        return idle

    def held(self) -> Iterator[Place[Connection]]:
        """The places that somebody has."""
        return (place for place in self._places if place.holder is not None)

    @property
    def empty(self) -> bool:
        """Whether nothing is open, being opened or being closed."""
        return not self._places

    def disown(self) -> None:
        """Nobody holds anything of this: in a forked child, whatever there is belongs to the parent."""
        for place in self._places:
            place.holder = None

    def stats(self) -> PoolStats:
        """The numbers of this moment."""
        waits = self._waits.stats(self.borrowed - self._granted)
        return PoolStats(
            name=self.name,
            limit=self._size,
            size=len(self._places),
            idle=len(self._idle),
            in_use=sum(1 for _ in self.held()),
            waiting=len(self._waiters),
            borrowed=self.borrowed,
            created=self._created,
            creations_failed=self._failed,
            closed=dict(self._closed),
            timeouts=self._timeouts,
            refused=self._refused,
            overdue=self._overdue,
            abandoned=self._abandoned,
            waits=waits,
        )

    def _new(self) -> Place[Connection]:
        place: Place[Connection] = Place()
        self._places.add(place)
        return place

    def _grant(self, place: Place[Connection], now_s: float) -> None:
        waiter, _ = self._waiters.popitem(last=False)
        self._waits.add(now_s - waiter.since_s)
        self.borrowed += 1
        self._granted += 1
        place.holder = waiter.holder
        place.lent_at_s = now_s
        waiter.place = place
        waiter.wake()
