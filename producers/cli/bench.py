"""``headrace bench``: measures of the platform that need a checkout, for the tests' code is not installed."""

import os
import sys
from pathlib import Path
from typing import Final

import click

from schemas.errors import HeadraceError

#: Beside this package in a checkout, and nowhere else.
CHECKOUT: Final = Path(__file__).resolve().parents[2]
FAULTS: Final = "tests.acceptance.faults"

_passing = {"ignore_unknown_options": True, "help_option_names": []}


class NoCheckout(HeadraceError):
    """The command was not started from a checkout."""

    code = "no_checkout"


@click.group()
def bench() -> None:
    """Measure the platform (from a checkout)."""


@bench.command(context_settings=_passing)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def faults(arguments: tuple[str, ...]) -> None:
    """Run schedules of faults against a stack of their own: --seeds A..B, one JSON line a run (--help: its options)."""
    if not (CHECKOUT / FAULTS.replace(".", "/")).is_dir():
        raise NoCheckout(
            f"There is no {FAULTS} in {CHECKOUT}: the fault schedules are part of the tests. Clone the repository, "
            "run `make setup` there, then `make faults SEEDS=0..9`."
        )
    os.chdir(CHECKOUT)
    # In place of this process: signals and the exit status are then its own.
    os.execv(sys.executable, (sys.executable, "-m", FAULTS, *arguments))  # noqa: S606
