"""``python -m tests.integration.runtime.clock_child KAFKA``: a publisher in a process whose clock is set."""

import select
import sys
import threading
from contextlib import closing
from typing import Final

from runtime.kafka import Publisher
from runtime.kafka_clock import WATCH

#: The clock is ahead: there are waits now that end in an hour.
AHEAD: Final = "ahead"
#: All waits are over.
OVER: Final = "over"
JUMP_S: Final = 1_000.0


def main(kafka: str) -> None:
    """Say when the clock is ahead, and when what waited then has come to its end."""
    apart_s = WATCH.apart_s
    with closing(Publisher(kafka, "test")) as publisher:
        print("ready", flush=True)
        while WATCH.apart_s < apart_s + JUMP_S:
            # A sleep that libfaketime knows nothing of.
            select.select([], [], [], 0.05)
        failed = threading.Event()
        # Only the main thread's timers find out that there is no such topic.
        publisher.publish_raw("no-such-topic", None, b"", [], on_delivery=lambda _delivery: failed.set())
        print(AHEAD, flush=True)
        failed.wait()
    print(OVER, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
