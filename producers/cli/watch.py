"""``headrace watch JOB``."""

import click

from producers.cli.following import follow, known
from producers.cli.output import Format, form_option
from producers.cli.target import Target, targeted


@click.command()
@click.argument("job")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="Seconds to watch at most.")
@targeted
@form_option
def watch(target: Target, job: str, timeout_s: float | None, form: Format) -> int:
    """Print the states and the progress of JOB, past ones first, then its result.

    With -o json it is one event a line.
    """
    with target.connect() as client:
        known(client, job)
        return follow(client, job, form, timeout_s)
