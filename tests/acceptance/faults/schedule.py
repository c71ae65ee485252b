"""From a seed to a schedule of faults: pure, so that a seed means the same schedule for ever."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

WORKERS: Final = ("worker-1", "worker-2", "worker-3")
DISPATCHERS: Final = ("dispatcher-1", "dispatcher-2")
BROKERS: Final = ("kafka-1", "kafka-2", "kafka-3")
REDIS: Final = "redis"
POSTGRES: Final = "postgres"
#: Whichever of them.
ALL_DISPATCHERS: Final = "dispatchers"
#: These run under faketime, so that their clocks can jump while they run.
CLOCKED: Final = ("worker-3", "dispatcher-2")

#: Schedules come in blocks of so many, and each block has every play once at least.
BLOCK_SEEDS: Final = 10
#: The longest that the faults of one schedule may take; what is left of a minute is for the drain.
FAULTS_S: Final = 33.0
QUIET_S: Final = (1.0, 2.0)


class Means(StrEnum):
    """What a fault needs that not every machine has, or not for everybody."""

    #: Of network and mounts, of our own.
    NAMESPACES = "namespaces"
    TRACING = "strace"
    FAKETIME = "libfaketime"


class Fault(StrEnum):
    """What is done to the stack."""

    #: SIGKILL now; started again in the end.
    KILL = "kill"
    #: SIGTERM, and started again in the end: a rolling restart, one after the other.
    RESTART = "restart"
    #: SIGKILL at a named point of the work, whenever it is reached.
    AFTER_CLAIM = "kill after claim"
    AFTER_COMPUTE = "kill after compute"
    AFTER_COMMIT = "kill after database commit"
    AFTER_LEASE = "kill after lease"
    AFTER_ADMISSION = "kill after admission"
    AFTER_PRODUCE = "kill after produce"
    AFTER_OFFSETS = "kill after offset commit"
    #: SIGSTOP, and SIGCONT in the end.
    FREEZE = "freeze"
    KILL_BACKEND = "kill a backend"
    TERMINATE_BACKENDS = "pg_terminate_backend"
    TWO_BROKERS = "two brokers of three down"
    #: The target is ``process:server``; all packets, those to the server, those from it.
    CUT = "cut"
    CUT_REQUESTS = "cut requests"
    CUT_REPLIES = "cut replies"
    #: A route into nothing beside the link: senders hear of it, which they don't of a dropped packet.
    BLACKHOLE = "blackhole route"
    LOSS = "packet loss"
    RESET = "connection resets"
    THROTTLE = "throttle"
    LATENCY = "latency"
    DISK_FULL = "disk full"
    FSYNC_ERRORS = "fsync errors"
    CLOCK_AHEAD = "clock an hour ahead"
    CLOCK_BACK = "clock an hour back"
    FLUSH_ALL = "FLUSHALL"
    WRONG_BYTES = "wrong bytes"
    #: Dispatchers join and leave.
    STORM = "rebalance storm"
    DUPLICATES = "duplicates"
    REORDERED = "reordered"
    POISON = "poison"
    TOMBSTONES = "tombstones"
    GIANTS = "giants"
    #: Bytes that are no event, also on the topics between our own processes.
    GARBAGE = "garbage"


@dataclass(frozen=True)
class Play:
    """A fault with the targets and durations that make sense for it."""

    fault: Fault
    targets: Sequence[str]
    least_s: float
    most_s: float
    needs: Means | None = None


@dataclass(frozen=True)
class Strike:
    """One fault at one time; ``at_s`` counts from the schedule's begin."""

    at_s: float
    fault: Fault
    target: str
    for_s: float

    @property
    def end_s(self) -> float:
        """When what was done is undone."""
        return self.at_s + self.for_s


@dataclass(frozen=True)
class Schedule:
    """The strikes of one run in their order, and when the quiet after the last of them is over."""

    seed: int
    strikes: tuple[Strike, ...]
    end_s: float


_LINKS: Final = tuple(f"{process}:{server}" for process in (*WORKERS, *DISPATCHERS) for server in ("kafka", POSTGRES))
_LOAD: Final = ("load",)
#: One of them dispatches, and only that one leases and relays.
_EITHER: Final = (ALL_DISPATCHERS,)

PLAYS: Final = (
    Play(Fault.KILL, WORKERS, 0.5, 2),
    Play(Fault.KILL, DISPATCHERS, 0.5, 3),
    Play(Fault.KILL, BROKERS, 2, 5),
    Play(Fault.KILL, (REDIS,), 1, 4),
    Play(Fault.KILL, (POSTGRES,), 1, 4),
    Play(Fault.RESTART, WORKERS, 0.5, 2),
    Play(Fault.RESTART, DISPATCHERS, 0.5, 2),
    Play(Fault.RESTART, BROKERS, 0.5, 2),
    Play(Fault.AFTER_CLAIM, WORKERS, 3, 4),
    Play(Fault.AFTER_COMPUTE, WORKERS, 3, 4),
    Play(Fault.AFTER_COMMIT, WORKERS, 3, 4),
    Play(Fault.AFTER_LEASE, _EITHER, 3, 4),
    Play(Fault.AFTER_ADMISSION, _EITHER, 3, 4),
    Play(Fault.AFTER_PRODUCE, _EITHER, 3, 4),
    Play(Fault.AFTER_OFFSETS, _EITHER, 3, 4),
    Play(Fault.FREEZE, WORKERS, 8, 10),
    Play(Fault.FREEZE, DISPATCHERS, 7, 11),
    Play(Fault.FREEZE, BROKERS, 3, 6),
    Play(Fault.FREEZE, (REDIS,), 3, 5),
    Play(Fault.FREEZE, (POSTGRES,), 5, 7),
    Play(Fault.KILL_BACKEND, (POSTGRES,), 0.5, 1),
    Play(Fault.TERMINATE_BACKENDS, (POSTGRES,), 0.5, 1),
    Play(Fault.TWO_BROKERS, tuple(f"{one}+{two}" for one in BROKERS for two in BROKERS if one < two), 3, 6),
    Play(Fault.CUT, _LINKS, 5, 8, Means.NAMESPACES),
    Play(Fault.CUT, tuple(f"{broker}:peers" for broker in BROKERS), 4, 7, Means.NAMESPACES),
    Play(Fault.CUT_REQUESTS, _LINKS, 4, 7, Means.NAMESPACES),
    Play(Fault.CUT_REPLIES, _LINKS, 4, 7, Means.NAMESPACES),
    Play(Fault.BLACKHOLE, _LINKS, 4, 7, Means.NAMESPACES),
    Play(Fault.LOSS, ("kafka", POSTGRES), 4, 6, Means.NAMESPACES),
    Play(Fault.RESET, ("kafka", POSTGRES), 2, 4, Means.NAMESPACES),
    Play(Fault.THROTTLE, ("loopback",), 3, 5, Means.NAMESPACES),
    Play(Fault.LATENCY, (POSTGRES, REDIS), 3, 6),
    Play(Fault.DISK_FULL, (POSTGRES,), 3, 5, Means.NAMESPACES),
    Play(Fault.DISK_FULL, BROKERS, 3, 5, Means.NAMESPACES),
    Play(Fault.FSYNC_ERRORS, (POSTGRES,), 1.5, 3, Means.TRACING),
    Play(Fault.FSYNC_ERRORS, BROKERS, 1.5, 3, Means.TRACING),
    Play(Fault.CLOCK_AHEAD, CLOCKED, 3, 5, Means.FAKETIME),
    Play(Fault.CLOCK_BACK, CLOCKED, 3, 5, Means.FAKETIME),
    Play(Fault.FLUSH_ALL, (REDIS,), 0.5, 1),
    Play(Fault.WRONG_BYTES, (REDIS,), 1, 2),
    Play(Fault.STORM, (ALL_DISPATCHERS,), 6, 9),
    Play(Fault.DUPLICATES, _LOAD, 1, 2),
    Play(Fault.REORDERED, _LOAD, 1, 2),
    Play(Fault.POISON, _LOAD, 1, 2),
    Play(Fault.TOMBSTONES, _LOAD, 1, 2),
    Play(Fault.GIANTS, _LOAD, 1, 2),
    Play(Fault.GARBAGE, _LOAD, 1, 2),
)


def draw(seed: int, means: Collection[Means] = tuple(Means)) -> Schedule:
    """The schedule of a seed, of the faults that can be made with these means.

    Each is one hand of a deck that its block of seeds shares; the last two plays of it strike at once.
    """
    random = Random(f"headrace {seed}")
    plays = _hand(seed, [play for play in PLAYS if can_be_made(play.fault, means)])
    random.shuffle(plays)
    # It kills three workers, and each must be missed before the next: that takes longer than any fault.
    plays.sort(key=lambda play: play.fault is not Fault.POISON)
    strikes: list[Strike] = []
    at_s = random.uniform(*QUIET_S)
    for play in plays[:-1]:
        strikes.append(_strike(play, at_s, random))
        at_s = strikes[-1].end_s + random.uniform(*QUIET_S)
    # In the middle of the one before, as a second fault that meets the repair of the first.
    first = strikes[-1]
    strikes.append(_strike(plays[-1], first.at_s + first.for_s * random.uniform(0.2, 0.8), random))
    return Schedule(seed, tuple(strikes), max(strike.end_s for strike in strikes) + random.uniform(*QUIET_S))


def can_be_made(fault: Fault, means: Collection[Means]) -> bool:
    """Whether a fault can be made with these means: without, it would be nothing at all."""
    return all(play.needs is None or play.needs in means for play in PLAYS if play.fault is fault)


def _hand(seed: int, plays: Sequence[Play]) -> list[Play]:
    """The plays of one schedule: dealt from the longest down, so that all hands last about as long."""
    deck = list(plays)
    Random(f"headrace block {seed // BLOCK_SEEDS}").shuffle(deck)
    deck.sort(key=lambda play: -play.most_s)
    hands: list[list[Play]] = [[] for _ in range(BLOCK_SEEDS)]
    for play in deck:
        min(hands, key=_duration_s).append(play)
    return hands[seed % BLOCK_SEEDS]


def _duration_s(hand: Sequence[Play]) -> float:
    return sum(play.most_s + QUIET_S[1] for play in hand)


def _strike(play: Play, at_s: float, random: Random) -> Strike:
    return Strike(
        at_s=round(at_s, 2),
        fault=play.fault,
        target=random.choice(play.targets),
        for_s=round(random.uniform(play.least_s, play.most_s), 2),
    )
