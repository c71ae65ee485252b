"""What the command's exit status says; scripts rely on these numbers."""

from enum import IntEnum

from producers.errors import DeadLetterNotFound, ResultGone
from runtime.settings import InvalidSetting
from runtime.topic_admin import TopicsMissing
from schemas.errors import HeadraceError, JobNotFound, RequestRefused, ResultTimeout, ServerUnreachable


class Exit(IntEnum):
    """The exit status of ``headrace``. 124 is that of timeout(1), 130 a shell's for Ctrl-C."""

    OK = 0
    #: The job failed, or a check found something wrong.
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    TIMED_OUT = 124
    INTERRUPTED = 130


def exit_of(error: HeadraceError) -> Exit:
    """The status that says what kind of error it was."""
    match error:
        case RequestRefused() | InvalidSetting():
            return Exit.USAGE
        case JobNotFound() | DeadLetterNotFound() | ResultGone():
            return Exit.NOT_FOUND
        case ServerUnreachable() | TopicsMissing():
            return Exit.UNREACHABLE
        case ResultTimeout():
            return Exit.TIMED_OUT
        case _:
            return Exit.FAILED
