"""Which promises a run can break, and a violation of one."""

from dataclasses import dataclass
from enum import StrEnum

from tests.acceptance.faults.evidence import Key


class Broken(StrEnum):
    """Which promise does not hold."""

    #: An acknowledged request without a terminal state, or without its dead letter.
    LOST = "lost"
    #: A job that nobody can have submitted.
    INVENTED = "invented"
    #: Two terminal events with different contents.
    DUPLICATE = "duplicate"
    #: Topic and table, or table and table, say different things; or a conflict changed the first.
    CONFLICTING = "conflicting"
    #: A terminal state that no ``read_committed`` reader was told of.
    UNSEEN = "unseen"
    #: More than one copy for ``read_committed`` readers.
    REPEATED = "repeated"
    #: Attempt, epoch or state going back.
    NON_MONOTONIC = "non-monotonic"
    #: A second execution without a fault that explains it.
    REEXECUTED = "re-executed"
    #: A write under a lease that was lost.
    STALE = "stale"
    #: Another end than the request asked for.
    UNJUST = "unjust"
    #: A job that goes on although its client has cancelled it, or that begins.
    UNHEEDED = "unheeded"
    #: A dead letter of something that was no bad request.
    MISPLACED = "misplaced"
    #: A process of ours that ended by itself, while nothing was wrong with any server.
    CRASHED = "crashed"
    #: No promise of Headrace's, but of this harness: a fault that took no effect.
    NO_EFFECT = "no effect"


@dataclass(frozen=True)
class Violation:
    """One promise broken for one job or operation."""

    broken: Broken
    subject: str
    detail: str = ""


def name(key: Key) -> str:
    """A job as violations call it."""
    return "/".join(key)
