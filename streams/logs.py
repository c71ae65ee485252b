"""What the dispatcher writes to its log: a line for each thing that matters, on stderr."""

import logging
import sys
import time
from typing import Final

#: While a server is away, its clients say so several times a second.
AGAIN_AFTER_S: Final = 30.0


def configure() -> None:
    """Set the process' logging up; call it once, before anything is logged."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(Seldom())
    logging.basicConfig(handlers=[handler], level="INFO")
    # They tell each step of each rebalance; what goes wrong is a warning or more.
    for chatty in ("faust", "aiokafka"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # A crash is logged by each service that it passes, and once at the end, by us.
    for crashing in ("mode", "streams.app", "streams.transport"):
        logging.getLogger(crashing).setLevel(logging.CRITICAL)


class Seldom(logging.Filter):
    """Lets what the Kafka client says pass once; the same again, with whatever figures, half a minute later."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s: dict[tuple[str, int, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if not record.name.startswith("aiokafka"):
            return True
        # The place in the code, not the text: it has figures in it. So there are as many as log calls.
        key = (record.name, record.lineno, record.levelname)
        now_s = time.monotonic()
        if now_s - self._last_s.get(key, -AGAIN_AFTER_S) < AGAIN_AFTER_S:
            return False
        self._last_s[key] = now_s
        return True
