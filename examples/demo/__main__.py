"""``python -m examples.demo``: the whole path of Headrace, seen by a client of it.

It needs a running stack whose addresses are in the environment (``make demo`` starts one). Everything in
it is a request that any client could publish. It writes ``var/demo.json``.
"""

import sys
import time
from pathlib import Path

from rich.console import Console

from examples.demo.report import Report, write
from examples.demo.screen import Screen
from examples.demo.steps import DemoFailed, compare, prompt_both, tune
from producers import Headrace
from producers.cli.exits import Exit, exit_of
from schemas.errors import HeadraceError

REPORT = Path("var/demo.json")


def main() -> int:
    """Run every step; the exit status is the one that ``headrace`` would give."""
    console = Console(highlight=False)
    try:
        run(Screen(console))
    except DemoFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return Exit.FAILED
    except HeadraceError as error:
        print(f"demo: {error.code}: {error}", file=sys.stderr)
        return exit_of(error)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    return Exit.OK


def run(screen: Screen) -> None:
    """Tune, generate, evaluate, report."""
    # A run that fails must not leave an earlier run's figures as its own.
    REPORT.unlink(missing_ok=True)
    started_s = time.monotonic()
    with Headrace.connect() as client:
        tuning = tune(client, screen)
        generation = prompt_both(client, screen, tuning.base, tuning.model)
        evaluation = compare(client, screen, tuning.base, tuning.model)
    report = Report.of(tuning, generation, evaluation, wall_s=time.monotonic() - started_s)
    screen.summary(report, evaluation.result)
    write(report, REPORT)
    screen.say(f"Figures: {REPORT}")


if __name__ == "__main__":
    sys.exit(main())
