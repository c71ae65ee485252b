"""``cache_child.py URL NAME SECONDS THREADS``: ask for one dear value in many threads, as a process of its own.

Each load is counted in Redis. A line on stdout once everything is ready, another one with how many got which value;
a line on stdin is the start.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from redis import Redis

from runtime.cache import Cache, Lifetime, MsgspecCodec


def main(url: str, name: str, seconds: float, threads: int) -> None:
    """Ask, and tell."""
    with closing(Cache.connect(url)) as cache, Redis.from_url(url) as client, ThreadPoolExecutor(threads) as pool:
        region = cache.region("dear", MsgspecCodec(str), Lifetime(ttl_s=600))

        def load() -> str:
            number = client.incr(f"loads:{name}")
            time.sleep(seconds)
            return f"value {number}"

        print("ready", flush=True)
        sys.stdin.readline()
        asked = [pool.submit(region.get_or_load, region.key(name), load) for _ in range(threads)]
        print(len(asked), *{each.result() for each in asked}, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
