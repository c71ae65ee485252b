"""The tier that processes share. Redis slow, away, full or read-only is never an error: there is nothing to get."""

import itertools
import secrets
import threading
from collections.abc import Callable
from typing import Final, TypeVar, cast

from msgspec import Struct
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from runtime.cache.breaker import Breaker
from runtime.cache.clock import Clock
from runtime.cache.connections import Connections
from runtime.cache.envelope import Damaged, Header, unseal
from runtime.cache.keys import Key
from runtime.cache.redis_commands import BEGIN, DELETE, RENEW, STORE, Names, message
from runtime.cache.stats import Tallies

Answer = TypeVar("Answer")

#: A lease is renewed every second by who holds it, and runs out so long after that process has died.
LEASE_S: Final = 10.0
#: A version that nobody has loaded under for so long is deleted, and what depends on it is a miss.
VERSION_S: Final = 2 * 86_400.0
#: An entry outlives its use in Redis by no more than this.
LONGEST_S: Final = 86_400.0
#: A slower answer is a failure, though it is used: what it costs is no longer little. Large ones have more time.
SLOW_S: Final = 0.25
SLOWEST_BYTES_PER_S: Final = 8 * 1024 * 1024
#: More names that Redis could not be told are kept as "everything".
UNDELIVERED_NAMES: Final = 10_000
VERSION_BYTES: Final = 8


class Found(Struct, frozen=True):
    """An entry whose versions stand."""

    header: Header
    payload: memoryview


class Lease(Struct, frozen=True):
    """The right to store an entry; ``found`` is what lay there as it was given."""

    key: Key
    token: bytes
    versions: tuple[bytes, ...]
    found: Found | None


class Taken(Struct, frozen=True):
    """Another process has the lease."""


class RedisTier:
    """Entries, leases and versions in Redis. Blocking and thread-safe, as its client is."""

    def __init__(self, client: "Redis", namespace: str, origin: str, tallies: Tallies, clock: Clock) -> None:
        self._client = client
        self._reads = Connections(client)
        self._names = Names(namespace)
        self._origin = origin
        self._tallies = tallies
        self._clock = clock
        self._begin = client.register_script(BEGIN)
        self._store = client.register_script(STORE)
        self._renew = client.register_script(RENEW)
        self._unlink = client.register_script(DELETE)
        self.answers = Breaker(clock)
        self.writes = Breaker(clock)
        self._deletes = Breaker(clock)
        self._lock = threading.Lock()
        self._leases: dict[str, bytes] = {}
        #: Each with a number of its own, for it may be invalidated once more while it is told; None is everything.
        self._undelivered: dict[str | None, int] = {}
        self._numbers = itertools.count()

    @property
    def undelivered(self) -> int:
        """Invalidations that Redis has still to be told; until then nothing is read from it."""
        return len(self._undelivered)

    def read(self, key: Key) -> Found | None:
        """The entry, if Redis answers and has it as it was stored."""
        if self._undelivered and not self.deliver():
            return None
        start = self._names.start
        keys = [start + key.name, *[start + name for name in key.dependencies]]
        values = self._ask(lambda: cast("list[object]", self._reads.ask("MGET", *keys)))
        if values is None or values[0] is None:
            return None
        try:
            return _opened(key, values)
        except Damaged:
            self._tallies.damaged.add()
            return None

    def begin(self, key: Key, *, force: bool = False) -> Lease | Taken | None:
        """The right to load the entry and store it; None where Redis does not give any. ``force`` takes it away."""
        if self._undelivered and not self.deliver():
            return None
        token = secrets.token_bytes(VERSION_BYTES)
        keys = [self._names.key(key.name), self._names.lease(key.name), *map(self._names.key, key.dependencies)]
        arguments: list[bytes | str | int] = [
            token,
            _ms(LEASE_S),
            int(force),
            secrets.token_bytes(VERSION_BYTES),
            _ms(VERSION_S),
        ]
        values = self._ask(lambda: cast("list[object]", self._begin(keys, arguments)), self.writes)
        if values is None:
            return None
        if not values:
            return Taken()
        versions = tuple(version for version in values[1:] if isinstance(version, bytes))
        try:
            found = _opened(key, values) if values[0] is not None else None
        except Damaged:
            # It was counted as it was read.
            found = None
        return Lease(key, token, versions, found)

    def store(self, lease: Lease, sealed: bytes, keep_s: float, *, announce: bool = False) -> bool:
        """Keep an entry, and give up the lease; False where Redis does not take it, or the lease is gone."""
        keys = [self._names.key(lease.key.name), self._names.lease(lease.key.name)]
        told = message(self._origin, (lease.key.name,)) if announce else b""
        arguments: list[bytes | str | int] = [
            lease.token,
            sealed,
            _ms(min(keep_s, LONGEST_S)),
            self._names.channel,
            told,
        ]
        stored = self._ask(lambda: cast("int", self._store(keys, arguments)), self.writes)
        self.forget(lease)
        return stored == 1

    def release(self, lease: Lease | Taken | None) -> None:
        """Let others load, if this is a lease; where Redis is away, it runs out."""
        if not isinstance(lease, Lease):
            return
        self.forget(lease)
        key = self._names.lease(lease.key.name)
        self._ask(lambda: self._renew([key], [0, lease.token]), self.writes)

    def hold(self, lease: Lease) -> None:
        """Have the lease renewed until it is given up."""
        with self._lock:
            self._leases[self._names.lease(lease.key.name)] = lease.token

    def forget(self, lease: Lease) -> bool:
        """Have the lease run out; whether it was held until now."""
        with self._lock:
            name = self._names.lease(lease.key.name)
            if self._leases.get(name) != lease.token:
                return False
            del self._leases[name]
            return True

    def renew(self) -> None:
        """Keep the leases that are held here; to be called well within ``LEASE_S``."""
        with self._lock:
            leases = dict(self._leases)
        if leases:
            self._ask(lambda: self._renew(list(leases), [_ms(LEASE_S), *leases.values()]), self.writes)

    def invalidate(self, names: tuple[str, ...]) -> bool:
        """Delete entries or versions and tell all processes; no names are all names.

        False where Redis does not take it: it is repeated until it does, and until then nothing is read from there.
        """
        with self._lock:
            self._undelivered.update((name, next(self._numbers)) for name in names or (None,))
            if None in self._undelivered or len(self._undelivered) > UNDELIVERED_NAMES:
                self._undelivered = {None: next(self._numbers)}
        return self.deliver()

    def deliver(self) -> bool:
        """Tell Redis what it has still to be told; whether it has been told all that was there as this began."""
        with self._lock:
            told = dict(self._undelivered)
        if told:
            if self._ask(lambda: self._delete(frozenset(told)), self._deletes) is None:
                return False
            with self._lock:
                for name, number in told.items():
                    if self._undelivered.get(name) == number:
                        del self._undelivered[name]
        return True

    def close(self) -> None:
        """Close the connections that are not the client's."""
        self._reads.close()

    def _delete(self, names: frozenset[str | None]) -> bool:
        everything = None in names
        # Every entry depends on a prefix.
        keys: list[str | bytes] = list(self._client.scan_iter(self._names.all_prefixes, 1_000)) if everything else []
        named = tuple(name for name in names if name is not None)
        keys += [key for name in named for key in self._names.deleted_with(name)]
        self._unlink(keys, [self._names.channel, message(self._origin, () if everything else named)])
        return True

    def _ask(self, command: Callable[[], Answer], writes: Breaker | None = None) -> Answer | None:
        """The answer, or None where there is none, or none is worth waiting for now."""
        if not ((writes is None or writes.allows()) and self.answers.allows()):
            return None
        begun_s = self._clock.monotonic_s()
        try:
            answer = command()
        except (RedisError, ValueError) as error:
            # A ValueError is redis-py's of an answer that is none.
            self._tallies.redis_errors.add()
            # Full and read-only are answers: what only reads goes on.
            if writes is not None and isinstance(error, ResponseError):
                writes.failed()
            else:
                self.answers.failed()
            return None
        took_s = self._clock.monotonic_s() - begun_s
        if took_s > SLOW_S and took_s > SLOW_S + _size(answer) / SLOWEST_BYTES_PER_S:
            self._tallies.redis_errors.add()
            self.answers.failed()
        else:
            self.answers.succeeded()
        if writes is not None:
            writes.succeeded()
        return answer


def _opened(key: Key, values: list[object]) -> Found | None:
    sealed, versions = values[0], tuple(values[1:])
    if not isinstance(sealed, bytes):
        raise Damaged("no text")
    header, payload = unseal(key.name, sealed)
    return Found(header, payload) if header.versions == versions else None


def _size(answer: object) -> int:
    return sum(len(value) for value in answer if isinstance(value, bytes)) if isinstance(answer, list) else 0


def _ms(seconds: float) -> int:
    return max(1, round(1_000 * seconds))
