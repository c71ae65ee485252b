"""How dead letters are written: in a list, or one with all that it has."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from producers.cli.output import Table
from producers.dead_letters import Letter

UNKNOWN: Final = "unknown"


@dataclass(frozen=True)
class Listed:
    """A dead letter without its bytes."""

    position: str
    refused_at: datetime
    code: str
    message: str
    attempts: int
    topic: str
    #: Tenant and id that the request names, where they can be read.
    tenant: str | None
    id: str | None
    size_bytes: int


@dataclass(frozen=True)
class Shown:
    """A dead letter with its bytes: as text where they are UTF-8, else in base64."""

    letter: Listed
    key: str | None
    headers: dict[str, str]
    value: str | None
    value_base64: str | None


def listed(letter: Letter) -> Listed:
    """What a list tells of the letter."""
    dead, job = letter.dead, letter.job
    return Listed(
        position=str(letter.position),
        refused_at=letter.refused_at,
        code=dead.error_code if dead else UNKNOWN,
        message=dead.error_message if dead else "Its headers do not say why it was refused.",
        attempts=dead.attempts if dead else 0,
        topic=dead.topic if dead else UNKNOWN,
        tenant=job[0] if job else None,
        id=job[1] if job else None,
        size_bytes=len(letter.value or b""),
    )


def shown_whole(letter: Letter) -> Shown:
    """The letter with its bytes."""
    try:
        text, base64 = (letter.value or b"").decode(), None
    except UnicodeDecodeError:
        text, base64 = None, b64encode(letter.value or b"").decode()
    return Shown(
        letter=listed(letter),
        key=None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        headers={name: (value or b"").decode(errors="backslashreplace") for name, value in letter.headers},
        value=text,
        value_base64=base64,
    )


def table_of(found: Sequence[Listed]) -> Table:
    """A line for each."""
    rows = [
        (
            item.position,
            item.refused_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            item.code,
            str(item.attempts),
            f"{item.tenant}/{item.id}" if item.id else "",
            item.message,
        )
        for item in found
    ]
    return Table(("POSITION", "REFUSED AT", "CODE", "ATTEMPTS", "JOB", "MESSAGE"), rows)


def details_of(letter: Letter, shown: Shown) -> Table:
    """Every header and the value, safe for a terminal: anybody may have written them."""
    value = (letter.value or b"").decode(errors="backslashreplace")
    rows = [("position", shown.letter.position), ("key", _printable(shown.key or ""))]
    rows += [(_printable(name), _printable(text)) for name, text in shown.headers.items()]
    return Table((), [*rows, ("bytes", f"{shown.letter.size_bytes:,}"), ("value", _printable(value))])


def _printable(text: str) -> str:
    """The text with its control characters escaped, all but the ends of lines."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
