"""What the doctor found about one thing."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How it is."""

    OK = "ok"
    #: It works, and could do so better.
    ADVICE = "advice"
    WRONG = "wrong"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Finding:
    """One server, or one thing in it: what is wrong with it, and the line that mends it."""

    name: str
    address: str
    health: Health
    version: str = ""
    problem: str = ""
    repair: str = ""
