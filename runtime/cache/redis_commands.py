"""What the cache says to Redis: names of keys, and scripts, each of which Redis runs as a whole.

::

    <namespace>:e:<prefix>:<digest>     an entry
    <namespace>:l:<prefix>:<digest>     the lease of whoever loads it
    <namespace>:p:<prefix>, …:t:<tag>   the version of a prefix or a tag
    <namespace>:invalidated             the channel of invalidations

An invalidation is one deletion, which a Redis takes that is full: of the entry with its lease, or of a version. An
entry carries the versions that its loader began under, and is read only while they stand, so what a loader stores that
began before an invalidation is never read: its lease is gone (as in memcached: Nishtala et al., "Scaling Memcache at
Facebook", NSDI 2013), or one of its versions is. Versions are random, so that one that was evicted or ran out does not
come back as it was.
"""

import re
from typing import Final

import msgspec

from runtime.cache.keys import NotCacheable
from schemas.errors import shown

#: KEYS: entry, lease, versions. ARGV: token, lease in ms, "1" to take it from others, a new version, its life in ms.
#: Gives nothing where another holds the lease, else the entry, if there is one, and the versions.
BEGIN: Final = """
if ARGV[3] == '1' then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
elseif not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {}
end
-- What is no text gives an error, which is a table, and is none of ours: it is written over.
local entry = redis.pcall('GET', KEYS[1])
local found = {type(entry) == 'string' and entry}
for i = 3, #KEYS do
  local version = redis.pcall('GET', KEYS[i])
  if type(version) ~= 'string' then
    version = ARGV[4]
    redis.call('SET', KEYS[i], version, 'PX', ARGV[5])
  elseif redis.call('PTTL', KEYS[i]) < tonumber(ARGV[5]) / 2 then
    redis.call('PEXPIRE', KEYS[i], ARGV[5])
  end
  found[i - 1] = version
end
return found
"""
#: KEYS: entry, lease. ARGV: token, value, life in ms, channel, message or "". Gives whether the lease still stood.
STORE: Final = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
if ARGV[5] ~= '' then
  redis.call('PUBLISH', ARGV[4], ARGV[5])
end
return 1
"""
#: KEYS: leases. ARGV: ms or 0 to give them up, then the token of each.
RENEW: Final = """
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i + 1] then
    if ARGV[1] == '0' then
      redis.call('DEL', KEYS[i])
    else
      redis.call('PEXPIRE', KEYS[i], ARGV[1])
    end
  end
end
return 1
"""
#: KEYS: what to delete. ARGV: channel, message. A transaction would be refused by a Redis that is full.
DELETE: Final = """
for i = 1, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
"""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[str, tuple[str, ...]])

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_\-]+")


def check_namespace(namespace: str) -> None:
    """Check that no other namespace can have a key of this one.

    Raises:
        NotCacheable: it holds what parts keys, or nothing.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise NotCacheable(f"A namespace is letters, digits, '_' and '-'; {shown(namespace)} is none.")


class Names:
    """The keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        #: What every key of an entry and a version begins with.
        self.start = f"{namespace}:"
        self.channel = f"{namespace}:invalidated"
        self.all_prefixes = f"{namespace}:p:*"

    def key(self, name: str) -> str:
        """Where an entry, or a version, lies."""
        return f"{self._namespace}:{name}"

    def lease(self, name: str) -> str:
        """Where the lease of an entry lies."""
        return f"{self._namespace}:l{name[1:]}"

    def deleted_with(self, name: str) -> list[str]:
        """What is deleted where ``name`` is invalidated."""
        return [self.key(name), self.lease(name)] if name.startswith("e:") else [self.key(name)]


def message(origin: str, names: tuple[str, ...]) -> bytes:
    """What the channel tells; no names are all names."""
    return _encoder.encode((origin, names))


def read_message(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Who has invalidated what. What can't be read is held to be everything."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError:
        return "", ()
