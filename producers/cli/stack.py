"""``headrace up`` and ``headrace down``: the local stack, by ``python -m deploy.local``."""

import os
import sys
from typing import NoReturn

import click

_passing = {"ignore_unknown_options": True, "help_option_names": []}


@click.command(context_settings=_passing)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def up(arguments: tuple[str, ...]) -> None:
    """Start Kafka, Redis, Postgres and Headrace on this machine (--help: its options)."""
    _become("up", arguments)


@click.command(context_settings=_passing)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def down(arguments: tuple[str, ...]) -> None:
    """Stop what `up` has started (--help: its options)."""
    _become("down", arguments)


def _become(verb: str, arguments: tuple[str, ...]) -> NoReturn:
    # In place of this process: signals and the exit status are then the stack's own.
    os.execv(sys.executable, (sys.executable, "-m", "deploy.local", verb, *arguments))  # noqa: S606
