"""Time and chance, passed in, so that tests have their own."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """``monotonic_s`` for what passes in a process, ``wall_s`` for what processes compare; ``draw`` is in [0, 1)."""

    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random
