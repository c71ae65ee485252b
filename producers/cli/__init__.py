"""The command ``headrace``: one file a verb, data on stdout, everything else on stderr."""

import os
import sys
from collections.abc import Sequence

import click

from producers.cli.bench import bench
from producers.cli.control import cancel, pause, resume, retry
from producers.cli.dlq import dlq
from producers.cli.doctor import doctor
from producers.cli.exits import Exit, exit_of
from producers.cli.results import results
from producers.cli.stack import down, up
from producers.cli.status import status
from producers.cli.submit import submit
from producers.cli.topics import topics
from producers.cli.watch import watch
from runtime.settings import CODE_VERSION
from schemas.errors import HeadraceError

__all__ = ["main"]


class Headrace(click.Group):
    """The command with its verbs."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb. A reader of stdout that has enough, as ``head``, ends it, and that is no failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Here, as click would exit with 1. Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.OK


@click.group(
    cls=Headrace,
    commands=(submit, status, watch, results, cancel, pause, resume, retry, dlq, topics, doctor, up, down, bench),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 ok, 1 the job failed, 2 usage, 3 not found, 4 unreachable, 124 timed out, 130 interrupted.",
)
@click.version_option(CODE_VERSION)
def cli() -> None:
    """Fine-tune, generate and evaluate with language models through Kafka."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status (``Exit``)."""
    try:
        return int(cli.main(arguments, prog_name="headrace", standalone_mode=False) or Exit.OK)
    except HeadraceError as error:
        click.echo(f"headrace: {error.code}: {error}", err=True)
        return exit_of(error)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
