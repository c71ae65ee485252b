"""``headrace cancel|pause|resume|retry JOB…``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import click

from producers.cli.exits import Exit, exit_of
from producers.cli.following import known
from producers.cli.output import Format, Table, form_option, note, show
from producers.cli.target import Target, targeted
from producers.client import Headrace
from schemas.errors import HeadraceError, JobNotFound
from schemas.events import FINAL_STATES, State

_jobs = click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
_reason = click.option("--reason", metavar="TEXT", help="Told to whoever watches the job.")
_early = click.option("--early", is_flag=True, help="Ask also where no such job is known yet: the wish waits for it.")

#: What a job is in once it has what was asked for: asking again is no failure.
REACHED: Final = {"cancel": State.CANCELLED, "pause": State.PAUSED}


@dataclass(frozen=True)
class Asked:
    """What was asked of one job, where it was at the time, and the id under which it goes on."""

    job_id: str
    action: str
    was: State | None
    id: str


@click.command()
@_jobs
@_reason
@click.option("--keep-partial", is_flag=True, help="Keep the text so far, or the tuned weights, as the result.")
@_early
@targeted
@form_option
def cancel(
    target: Target, jobs: Sequence[str], reason: str | None, keep_partial: bool, early: bool, form: Format
) -> int:
    """End each JOB: a queued one never starts, a running one stops within a step.

    Exit 3 if there is no such job, 1 if it has ended otherwise; the other jobs are cancelled all the same.
    """
    return _ask(
        target,
        jobs,
        form,
        "cancel",
        lambda client, job: client.cancel(job, reason, keep_partial=keep_partial),
        early=early,
    )


@click.command()
@_jobs
@_reason
@_early
@targeted
@form_option
def pause(target: Target, jobs: Sequence[str], reason: str | None, early: bool, form: Format) -> int:
    """Let each JOB wait until it is resumed; a fine-tune or an evaluation keeps what it has done."""
    return _ask(target, jobs, form, "pause", lambda client, job: client.pause(job, reason), early=early)


@click.command()
@_jobs
@_reason
@targeted
@form_option
def resume(target: Target, jobs: Sequence[str], reason: str | None, form: Format) -> int:
    """Let each paused JOB go on."""
    return _ask(target, jobs, form, "resume", lambda client, job: client.resume(job, reason))


@click.command()
@_jobs
@_reason
@click.option("--new-id", metavar="ID", help="The new job's id, for one JOB.  [default: a new one]")
@targeted
@form_option
def retry(target: Target, jobs: Sequence[str], reason: str | None, new_id: str | None, form: Format) -> int:
    """Submit each JOB again that has failed, was cancelled or has expired; -o name prints the new ids.

    One that waits after a lost attempt begins the next one at once.
    """
    if new_id and len(jobs) > 1:
        raise click.UsageError(f"--new-id {new_id!r} is for one job, not for {len(jobs)}: leave it out.")
    done: list[Asked] = []
    status = Exit.OK
    with target.connect() as client:
        for job in jobs:
            try:
                was = known(client, job).state
                done.append(Asked(job, "retry", was, client.retry(job, reason, new_id=new_id)))
            except HeadraceError as error:
                status = _failed(error)
    return _show(form, done, status)


def _ask(
    target: Target,
    jobs: Sequence[str],
    form: Format,
    action: str,
    ask: Callable[[Headrace, str], None],
    *,
    early: bool = False,
) -> int:
    done: list[Asked] = []
    status = Exit.OK
    with target.connect() as client:
        for job in jobs:
            try:
                was = _state(client, job, early=early)
                if was in FINAL_STATES:
                    note(f"headrace: job {job} has ended as {was}: there is nothing to {action}.")
                    status = status if was is REACHED.get(action) else Exit.FAILED
                    continue
                ask(client, job)
                done.append(Asked(job, action, was, job))
            except HeadraceError as error:
                status = _failed(error)
    return _show(form, done, status)


def _state(client: Headrace, job: str, *, early: bool) -> State | None:
    try:
        return known(client, job).state
    except JobNotFound:
        if early:
            return None
        raise


def _failed(error: HeadraceError) -> Exit:
    """Tell of one job's error; the others go on."""
    note(f"headrace: {error.code}: {error}")
    return exit_of(error)


def _show(form: Format, done: Sequence[Asked], status: Exit) -> int:
    rows = [(item.job_id, item.was.value if item.was else "not known yet", item.action, item.id) for item in done]
    show(form, done, [item.id for item in done], lambda: Table(("JOB", "WAS", "ASKED TO", "GOES ON AS"), rows))
    return status
