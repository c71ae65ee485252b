"""``python -m benchmarks.programs.cache_asker KEY THREADS``: ask for one dear value in all threads at once.

Prints a line once it is ready, starts at a line on stdin, prints how often its loader ran and what it took in seconds.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from runtime.cache import Cache, Lifetime, MsgspecCodec


def main(name: str, threads: int) -> None:
    """Ask."""
    with closing(Cache.connect(os.environ["HEADRACE_REDIS"])) as cache, ThreadPoolExecutor(threads) as pool:
        region = cache.region("bench", MsgspecCodec(int), Lifetime(ttl_s=60))
        runs: list[int] = []

        def load() -> int:
            runs.append(1)
            time.sleep(0.3)
            return 7

        # The threads themselves are not what is to be timed.
        list(pool.map(time.sleep, [0.05] * threads))
        print("ready", flush=True)
        sys.stdin.readline()
        begun_s = time.perf_counter()
        asked = [pool.submit(region.get_or_load, region.key(name), load) for _ in range(threads)]
        assert {each.result() for each in asked} == {7}
        print(len(runs), time.perf_counter() - begun_s, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
