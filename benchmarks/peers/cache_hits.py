"""``cache_hits.py CALLS``: hits of memory in one thread, ours and the peers' in turns; prints µs a call by contender.

Run with the peers' Python and the repository on its path, so that all are in one process and share its moods.
"""

import asyncio
import json
import sys
import time

import aiocache
from cashews import Cache as Cashews
from dogpile.cache import make_region

from runtime.cache import Cache, Lifetime, Lru, MsgspecCodec, S3Fifo, cache_result

TURNS = 40
#: So many calls are timed together: one of ours is as short as reading the clock.
BATCH = 50
VALUE = {"text": "x" * 300}


async def async_us(calls, get):
    """The median of the batches' means."""
    means = []
    for _ in range(calls // BATCH):
        begun = time.perf_counter()
        for _ in range(BATCH):
            await get()
        means.append((time.perf_counter() - begun) / BATCH * 1e6)
    return sorted(means)[len(means) // 2]


def sync_us(calls, get):
    means = []
    for _ in range(calls // BATCH):
        begun = time.perf_counter()
        for _ in range(BATCH):
            get()
        means.append((time.perf_counter() - begun) / BATCH * 1e6)
    return sorted(means)[len(means) // 2]


def load():
    return VALUE


async def load_async():
    return VALUE


def ours(policy):
    """A hit, awaited and not, and one of a decorated function."""
    cache = Cache(policy=policy)
    region = cache.region("bench", MsgspecCodec(dict), Lifetime(ttl_s=3600))
    key = region.key("user", 7)
    region.put(key, VALUE)

    @cache_result(key_prefix="bench:function", ttl=3600, cache=cache)
    def decorated(kind: str, number: int) -> dict:
        return {**VALUE, kind: number}

    decorated("user", 7)
    return (
        lambda: region.get_or_load(key, load),
        lambda: region.get_or_load_async(key, load_async),
        lambda: decorated("user", 7),
    )


async def main(calls):
    lru, lru_async, lru_decorated = ours(Lru)
    s3, s3_async, s3_decorated = ours(S3Fifo)

    cashews = Cashews()
    cashews.setup("mem://", size=10_000, check_interval=0)
    await cashews.set("user:7", VALUE, expire=3600)
    aio = aiocache.Cache(aiocache.Cache.MEMORY)
    await aio.set("user:7", VALUE, ttl=3600)
    dogpile = make_region().configure("dogpile.cache.memory", expiration_time=3600)
    dogpile.set("user:7", VALUE)

    contenders = {
        "ours, LRU": lru,
        "ours, S3-FIFO": s3,
        "ours, LRU, decorated": lru_decorated,
        "ours, S3-FIFO, decorated": s3_decorated,
        "ours, LRU, awaited": lru_async,
        "ours, S3-FIFO, awaited": s3_async,
        "cashews": lambda: cashews.get("user:7"),
        "aiocache": lambda: aio.get("user:7"),
        "dogpile.cache": lambda: dogpile.get("user:7"),
    }
    awaited = {"ours, LRU, awaited", "ours, S3-FIFO, awaited", "cashews", "aiocache"}
    runs = {name: [] for name in contenders}
    for _ in range(TURNS):
        for name, get in contenders.items():
            runs[name].append(await async_us(calls, get) if name in awaited else sync_us(calls, get))
    print(json.dumps(runs))


asyncio.run(main(int(sys.argv[1])))
