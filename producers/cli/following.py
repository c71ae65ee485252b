"""Wait for a job or watch it, write what it comes to, and tell by the exit status whether it succeeded."""

import time
from typing import Final

import click
import msgspec

from producers.cli.exits import Exit
from producers.cli.output import Format, note, show, show_table
from producers.cli.texts import line_of, names_of, table_of
from producers.client import Headrace
from producers.feed import JobEvent
from producers.status import JobStatus
from schemas.errors import JobNotFound
from schemas.results import ResultEvent, Terminal

#: A request needs a moment from Kafka to its admission; a job that is still unknown then is not found.
ADMISSION_S: Final = 2.0
POLL_S: Final = 0.1


def known(client: Headrace, job_id: str) -> JobStatus:
    """The job's state; a job that was submitted just now is waited for.

    Raises:
        JobNotFound: the tenant has no such job.
    """
    deadline_s = time.monotonic() + ADMISSION_S
    while True:
        try:
            return client.status(job_id)
        except JobNotFound:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(POLL_S)


def wait(client: Headrace, job_id: str, form: Format, timeout_s: float | None, *, ended: bool = False) -> int:
    """Write the job's result once it is there; the exit status.

    Raises:
        ResultTimeout: it is not there in time.
        ResultGone: the job is known to have ``ended``, and it is there no more.
    """
    event = client.result(job_id, timeout_s, ended=ended)
    show(form, event, names_of(event), lambda: table_of(event))
    return _concluded(event)


def follow(client: Headrace, job_id: str, form: Format, timeout_s: float | None) -> int:
    """Write the job's events as they come, and its result; the exit status.

    Raises:
        ResultTimeout: the job has not ended in time.
    """
    for event in client.watch(job_id, timeout_s):
        _write(event, form)
        if isinstance(event, ResultEvent):
            return _concluded(event)
    raise AssertionError("a watch ends with a result or an error")


def _concluded(event: ResultEvent) -> int:
    if event.error:
        note(f"headrace: {event.error.code}: {event.error.message}")
    return Exit.OK if event.status is Terminal.SUCCEEDED else Exit.FAILED


def _write(event: JobEvent, form: Format) -> None:
    """Write one of a stream of events: a line, or a document of its own."""
    match form:
        case Format.TABLE if isinstance(event, ResultEvent):
            show_table(table_of(event))
        case Format.TABLE:
            click.echo(line_of(event))
        case Format.JSON:
            click.echo(msgspec.json.encode(event))
        case Format.YAML:
            click.echo(b"---\n" + msgspec.yaml.encode(event), nl=False)
        case Format.NAME:
            if isinstance(event, ResultEvent):
                click.echo("\n".join(names_of(event)))
