"""``python -m workers``: one worker, with the servers that the environment's ``HEADRACE_`` variables name.

SIGTERM or SIGINT: it takes no more jobs, finishes or gives back what it has in a few seconds, and exits with 0.
SIGUSR1: it writes to its log what each of its threads is at.
"""

import logging
import os

from runtime import interpreter
from runtime.settings import Settings
from schemas.errors import HeadraceError
from workers.evaluate import evaluate
from workers.finetune import finetune
from workers.generate import generate
from workers.job import Handlers
from workers.serving import serve
from workers.tools import open_tools

log = logging.getLogger("workers")


def main() -> int:
    """Run a worker; the exit status is 0 only after a stop that was asked for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    interpreter.tell_when_asked()
    try:
        serve(Settings.from_env(os.environ), Handlers(generate, finetune, evaluate), open_tools)
    except HeadraceError as error:
        log.error("%s: %s", error.code, error)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Everything is closed. Python's own teardown of torch would take seconds of the ten that
    # supervisors give, and would wait for a trainer's thread that is still in its last step.
    os._exit(status)
