"""The options that every kind of request has, and what is done once it is put together."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, Concatenate, ParamSpec

import click

from producers.cli.choices import ChoiceOf
from producers.cli.exits import Exit
from producers.cli.following import follow, wait
from producers.cli.output import Format, Table, form_option, note, show
from producers.cli.submit.body import Fields, read_request
from producers.cli.target import Target, targeted
from schemas.requests import DEFAULT_TENANT, Priority
from schemas.topics import Kind

Options = ParamSpec("Options")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is common to all kinds, as the options say it."""

    target: Target
    form: Format
    file: BinaryIO | None
    fields: Fields
    waits: bool
    watches: bool
    timeout_s: float | None

    def send(self, kind: Kind, fields: Fields) -> int:
        """Send the request, print its id, and wait or watch if that was asked for; the exit status."""
        request = read_request(kind, self.file, {**self.fields, **fields})
        target = self.target
        if target.tenant == DEFAULT_TENANT:
            target = replace(target, tenant=request.tenant)
        with target.connect() as client:
            job_id = client.submit(request)
            if not (self.waits or self.watches):
                show(self.form, {"id": job_id}, [job_id], lambda: Table((), [(job_id,)]))
                return Exit.OK
            note(job_id)
            return (follow if self.watches else wait)(client, job_id, self.form, self.timeout_s)


def submits(command: Callable[Concatenate[Submission, Options], int]) -> Callable[..., int]:
    """Add the common options to the command of one kind, and pass them as its first argument."""

    @click.option("--file", type=click.File("rb"), help="A whole request as JSON; - is stdin. Options go over it.")
    @click.option("--model", help="The id of a base model or of a tuned one.")
    @click.option("--id", "job_id", help="The job's id; sent twice, it runs once.  [default: a new one]")
    @click.option("--priority", type=ChoiceOf(Priority))
    @click.option("--deadline", metavar="TIME", help="RFC 3339, with a time zone: 2026-12-31T18:00:00Z.")
    @click.option("--wait", "waits", is_flag=True, help="Wait for the result and print it.")
    @click.option("--watch", "watches", is_flag=True, help="Print states and progress as they come, then the result.")
    @click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), help="Seconds to wait at most.")
    @targeted
    @form_option
    @functools.wraps(command)
    def with_common(
        target: Target,
        form: Format,
        file: BinaryIO | None,
        model: str | None,
        job_id: str | None,
        priority: Priority | None,
        deadline: str | None,
        waits: bool,
        watches: bool,
        timeout_s: float | None,
        *args: Options.args,
        **kwargs: Options.kwargs,
    ) -> int:
        fields = {"model": model, "id": job_id, "priority": priority, "deadline": deadline}
        submission = Submission(
            target=target,
            form=form,
            file=file,
            fields=fields,
            waits=waits,
            watches=watches,
            timeout_s=timeout_s,
        )
        return command(submission, *args, **kwargs)

    return with_common
