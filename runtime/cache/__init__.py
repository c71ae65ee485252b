"""A cache of two tiers, memory over Redis, for values that are dear to make.

::

    cache = Cache.connect(settings.redis)
    answers = cache.region("answers", MsgspecCodec(Answer), Lifetime(ttl_s=60))
    answer = answers.get_or_load(answers.key(model, prompt, tenant=tenant), lambda: ask(model, prompt))

    @cache_result(key_prefix="answers", ttl=60)
    def ask(model: str, prompt: str) -> Answer: ...

What it promises:

1. Two values share a key only if prefix, version, tenant and every argument are the same, type for type.
2. Once ``invalidate`` has returned True, no call that begins in this process gets what was loaded before, and none in
   another process that reads Redis. Another process' memory drops it as the message comes, milliseconds later, and
   at the latest ``BLIND_S`` (5 s) after: memory that has not heard from Redis for so long is not believed, and
   after a reconnect it is emptied. A loader that began before the invalidation stores nothing that is read after it.
3. Where Redis does not take an invalidation, ``invalidate`` returns False. It is done here at once, and repeated
   until Redis takes it; until then this process reads nothing from Redis. Others may read the old value there, no
   longer than its lifetime, as they may if this process dies first, or if Redis comes back with an older state.
4. One load of a key at a time: in this process always, across processes while Redis answers. It may run twice where a
   process stands still for longer than its lease (10 s), where another has waited for ``Lifetime.wait_s``, or where an
   invalidation came in between. A loader's error reaches all who waited, and the next call tries again.
5. Redis slow, away, full or read-only costs time, never an error and never a wrong value: memory goes on, with values
   that are loaded while Redis is away for ``BLIND_S`` each. A damaged entry is a miss, and is counted.

``runtime.cache.exposition`` tells Prometheus of it; the cache itself does without.

It needs one Redis (no cluster: an entry and its versions are read together).
"""

from runtime.cache.cache import Cache
from runtime.cache.clock import Clock
from runtime.cache.codecs import BytesCodec, Codec, MsgspecCodec, UnreadableValue
from runtime.cache.decorator import BoundFunction, CachedCoroutineFunction, CachedFunction, cache_result
from runtime.cache.entries import Limits
from runtime.cache.identities import Identified
from runtime.cache.keys import Key, NotCacheable
from runtime.cache.lifetimes import Lifetime
from runtime.cache.listener import BLIND_S
from runtime.cache.lru import Lru
from runtime.cache.memory import Policy
from runtime.cache.process import set_process_cache
from runtime.cache.regions import Region
from runtime.cache.s3fifo import S3Fifo
from runtime.cache.stats import CacheStats, RegionStats

__all__ = [
    "BLIND_S",
    "BoundFunction",
    "BytesCodec",
    "Cache",
    "CacheStats",
    "CachedCoroutineFunction",
    "CachedFunction",
    "Clock",
    "Codec",
    "Identified",
    "Key",
    "Lifetime",
    "Limits",
    "Lru",
    "MsgspecCodec",
    "NotCacheable",
    "Policy",
    "Region",
    "RegionStats",
    "S3Fifo",
    "UnreadableValue",
    "cache_result",
    "set_process_cache",
]
