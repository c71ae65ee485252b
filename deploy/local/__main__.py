"""Run a stack of Headrace on this machine: `python -m deploy.local up | down | run | clean`."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from deploy.local import background, foreground
from deploy.local.paths import DEFAULT_STACK, StackPaths
from deploy.local.service import Command, StackError
from deploy.local.stack import Plan

directory_option = click.option(
    "--dir",
    "directory",
    # Absolute, as servers run in directories of their own.
    type=click.Path(path_type=Path, resolve_path=True),
    default=DEFAULT_STACK,
    help="Where the stack keeps its data and logs [default: var/stack].",
)


def plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what runs."""
    options = (
        directory_option,
        click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True),
        click.option("--servers-only", is_flag=True, help="Kafka, Redis and Postgres, nothing of Headrace."),
        click.option("--brokers", type=click.IntRange(min=1), default=1, show_default=True),
        click.option("--fast/--durable", default=False, help="Whether Postgres may skip fsync."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"max_content_width": 100})
def main() -> None:
    """Run a stack of Headrace on this machine."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


@main.command()
@plan_options
def up(directory: Path, workers: int, servers_only: bool, brokers: int, fast: bool) -> None:
    """Start a stack in the background; return once all of it is healthy."""
    plan = Plan(directory, workers, servers_only, brokers, durable=not fast)
    try:
        state = background.up(plan)
    except KeyboardInterrupt:
        sys.exit(foreground.INTERRUPTED)
    for service in state.services:
        click.echo(f"{service.name}: process {service.pid}, log {service.log}", err=True)
    click.echo(f"the stack is {state.phase.value}; its addresses: {plan.paths.environment}", err=True)


@main.command()
@directory_option
def down(directory: Path) -> None:
    """Stop the stack; return once every process of it is gone. Its data stay."""
    stopped = background.down(StackPaths(directory))
    click.echo("stopped" if stopped else f"no stack runs in {directory}", err=True)


@main.command()
@directory_option
def clean(directory: Path) -> None:
    """Stop the stack and remove its data."""
    background.clean(StackPaths(directory))


@main.command(context_settings={"ignore_unknown_options": True})
@plan_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(directory: Path, workers: int, servers_only: bool, brokers: int, fast: bool, command: tuple[str, ...]) -> None:
    """Run a stack in the foreground until a signal, or for as long as COMMAND runs.

    With a COMMAND, a stack that runs already is used, and left as it is.
    """
    plan = Plan(directory, workers, servers_only, brokers, durable=not fast)
    present = background.running_stack(plan) if command else None
    if present is not None:
        os.execvpe(command[0], command, {**os.environ, **present.environment})  # noqa: S606  (no shell)
    sys.exit(foreground.run(plan, Command(command) if command else None))


if __name__ == "__main__":
    try:
        main()
    except StackError as error:
        sys.exit(str(error))
