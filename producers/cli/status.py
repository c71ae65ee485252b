"""``headrace status [JOB]``."""

from collections.abc import Sequence

import click

from producers.cli.following import known
from producers.cli.output import Format, Table, form_option, show
from producers.cli.target import Target, targeted
from producers.cli.texts import clock
from producers.status import JobStatus

COLUMNS = ("JOB", "KIND", "STATE", "ATTEMPT", "SINCE", "WORKER", "MODEL", "REASON")


@click.command()
@click.argument("job", required=False)
@click.option("--last", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many, without JOB.")
@targeted
@form_option
def status(target: Target, job: str | None, last: int, form: Format) -> int:
    """Print where JOB is, or the last jobs (from Postgres)."""
    with target.connect() as client:
        if job is None:
            found = client.jobs(last)
            show(form, found, [item.job_id for item in found], lambda: _table(found))
        else:
            one = known(client, job)
            show(form, one, [one.job_id], lambda: _table([one]))
    return 0


def _table(found: Sequence[JobStatus]) -> Table:
    rows = [
        (
            item.job_id,
            item.kind.value,
            item.state.value,
            str(item.attempt),
            clock(item.at),
            item.worker_id or "",
            item.model or "",
            item.reason or "",
        )
        for item in found
    ]
    return Table(COLUMNS, rows)
