"""``headrace results JOB``."""

import click

from producers.cli.following import known, wait
from producers.cli.output import Format, form_option
from producers.cli.target import Target, targeted
from schemas.errors import ResultTimeout
from schemas.events import FINAL_STATES


@click.command()
@click.argument("job")
@click.option("--follow", is_flag=True, help="Wait until the job has ended.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="Wait, but so many seconds at most.")
@targeted
@form_option
def results(target: Target, job: str, follow: bool, timeout_s: float | None, form: Format) -> int:
    """Print the result of JOB; with -o name a tuned model's id.

    Exit 1 if the job failed, 124 if it has not ended, 3 if its result is older than the topic keeps it.
    """
    with target.connect() as client:
        ended = known(client, job).state in FINAL_STATES
        if not (ended or follow) and timeout_s is None:
            raise ResultTimeout(job, 0)
        return wait(client, job, form, timeout_s, ended=ended)
