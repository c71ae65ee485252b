"""``headrace submit``: send a request, and optionally wait for its result."""

import click

from producers.cli.submit.evaluate import evaluate
from producers.cli.submit.finetune import finetune
from producers.cli.submit.generate import generate


@click.group()
def submit() -> None:
    """Send a request; its job's id goes to stdout."""


submit.add_command(generate)
submit.add_command(finetune)
submit.add_command(evaluate)
