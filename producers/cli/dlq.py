"""``headrace dlq ls|show|replay``: the requests that could not be admitted."""

import sys
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import click

from producers.cli.choices import ChoiceOf
from producers.cli.exits import Exit
from producers.cli.output import Format, Table, form_option, note, show
from producers.cli.target import Target, targeted
from producers.dead_letters import Letter, Position, can_replay, read_letter, read_letters, replay
from runtime.kafka import Publisher
from schemas.topics import Kind

#: Letters on their way at once; what is not acknowledged by then is reported as not sent.
IN_FLIGHT: Final = 500
ACKNOWLEDGE_MS: Final = 10_000
UNKNOWN: Final = "unknown"


class PositionType(click.ParamType):
    """An argument that names a dead letter."""

    name = "position"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Position:
        """The position, or a usage error that shows what came."""
        if isinstance(value, Position):
            return value
        try:
            return Position.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


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


_kinds = click.option("--kind", "kinds", type=ChoiceOf(Kind), multiple=True, help="Only these.  [default: all]")
_codes = click.option("--code", "codes", multiple=True, metavar="CODE", help="Only those refused for this reason.")


@click.group()
def dlq() -> None:
    """List, show and send again the requests that could not be admitted.

    Whoever may read the topics sees those of all tenants: what can't be read names no tenant.
    """


@dlq.command()
@_kinds
@_codes
@click.option("--last", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many at most.")
@targeted
@form_option
def ls(target: Target, kinds: Sequence[Kind], codes: Sequence[str], last: int, form: Format) -> int:
    """List dead letters, the oldest first; -o name prints their positions."""
    wanted = (_listed(letter) for letter in _chosen(target, kinds, codes))
    found = sorted(deque(wanted, maxlen=last), key=lambda item: item.refused_at)
    show(form, found, [item.position for item in found], lambda: _table(found))
    return Exit.OK


@dlq.command(name="show")
@click.argument("position", type=PositionType())
@click.option("--raw", is_flag=True, help="Write the request's bytes as they came, and nothing else.")
@targeted
@form_option
def show_letter(target: Target, position: Position, raw: bool, form: Format) -> int:
    """Print why the letter at POSITION was refused, its headers and its bytes."""
    letter = read_letter(target.settings.kafka, position)
    if raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(letter.value or b"")
        return Exit.OK
    shown = _shown(letter)
    show(form, shown, [shown.letter.position], lambda: _details(letter, shown))
    return Exit.OK


@dlq.command(name="replay")
@click.argument("positions", type=PositionType(), nargs=-1, metavar="[POSITION...]")
@_kinds
@_codes
@click.option("--all", "everything", is_flag=True, help="Every letter, or every one of --kind and --code.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@targeted
@form_option
def replay_letters(
    target: Target,
    positions: Sequence[Position],
    kinds: Sequence[Kind],
    codes: Sequence[str],
    everything: bool,
    dry_run: bool,
    form: Format,
) -> int:
    """Send dead letters again to the topics where they came from: key, headers and bytes as they were.

    One that is refused again becomes a new dead letter, with one more attempt. The letters stay where
    they are, so choose what to send: a second replay sends it a second time.
    """
    if bool(positions) == (everything or bool(kinds or codes)):
        raise click.UsageError("Name the letters to send by POSITION, or choose them by --kind, --code or --all.")
    kafka = target.settings.kafka
    letters = [read_letter(kafka, place) for place in positions] if positions else _chosen(target, kinds, codes)
    with closing(Publisher(kafka, "client", 1, ACKNOWLEDGE_MS)) as publisher:
        sent, left = _send(letters, None if dry_run else lambda letter: replay(publisher, kafka, letter))
    show(form, sent, [item.position for item in sent], lambda: _table(sent))
    note(f"{'Would send' if dry_run else 'Sent'} {len(sent):,} of {len(sent) + left:,}.")
    return Exit.FAILED if left else Exit.OK


def _send(
    letters: Sequence[Letter] | Iterator[Letter], send: Callable[[Letter], Future[None]] | None
) -> tuple[list[Listed], int]:
    """Send letters, waiting for Kafka; those that were sent, and how many could not be."""
    sent: list[Listed] = []
    left = 0
    waiting: list[Future[None]] = []
    for letter in letters:
        if not can_replay(letter):
            note(f"headrace: {letter.position} does not say which request topic it came from, so it is left out.")
            left += 1
            continue
        sent.append(_listed(letter))
        if send:
            waiting.append(send(letter))
        if len(waiting) == IN_FLIGHT:
            _acknowledge(waiting)
    _acknowledge(waiting)
    return sent, left


def _acknowledge(waiting: list[Future[None]]) -> None:
    for delivery in waiting:
        delivery.result()
    waiting.clear()


def _chosen(target: Target, kinds: Sequence[Kind], codes: Sequence[str]) -> Iterator[Letter]:
    letters = read_letters(target.settings.kafka, kinds or list(Kind))
    return (letter for letter in letters if not codes or (letter.dead and letter.dead.error_code in codes))


def _listed(letter: Letter) -> Listed:
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


def _shown(letter: Letter) -> Shown:
    try:
        text, base64 = (letter.value or b"").decode(), None
    except UnicodeDecodeError:
        text, base64 = None, b64encode(letter.value or b"").decode()
    return Shown(
        letter=_listed(letter),
        key=None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        headers={name: (value or b"").decode(errors="backslashreplace") for name, value in letter.headers},
        value=text,
        value_base64=base64,
    )


def _table(found: Sequence[Listed]) -> Table:
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


def _details(letter: Letter, shown: Shown) -> Table:
    """Every header and the value, safe for a terminal: anybody may have written them."""
    value = (letter.value or b"").decode(errors="backslashreplace")
    rows = [("position", shown.letter.position), ("key", _printable(shown.key or ""))]
    rows += [(_printable(name), _printable(text)) for name, text in shown.headers.items()]
    return Table((), [*rows, ("bytes", f"{shown.letter.size_bytes:,}"), ("value", _printable(value))])


def _printable(text: str) -> str:
    """The text with its control characters escaped, all but the ends of lines."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
