"""``headrace dlq ls|show|replay``: the requests that could not be admitted."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import click

from producers.cli.choices import ChoiceOf
from producers.cli.exits import Exit
from producers.cli.letters import Listed, details_of, listed, shown_whole, table_of
from producers.cli.output import Format, form_option, note, show
from producers.cli.target import Target, targeted
from producers.dead_letters import Letter, Position, can_replay, read_letter, read_letters, replay
from producers.sender import BUFFERED_KB
from runtime.kafka import BufferFull, Publisher
from schemas.errors import ServerUnreachable
from schemas.topics import Kind

#: Letters on their way at once; what is not acknowledged by then is reported as not sent.
IN_FLIGHT: Final = 500
ACKNOWLEDGE_MS: Final = 10_000


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
    wanted = (listed(letter) for letter in _chosen(target, kinds, codes))
    found = sorted(deque(wanted, maxlen=last), key=lambda item: item.refused_at)
    show(form, found, [item.position for item in found], lambda: table_of(found))
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
    shown = shown_whole(letter)
    show(form, shown, [shown.letter.position], lambda: details_of(letter, shown))
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
    with closing(Publisher(kafka, "client", 1, ACKNOWLEDGE_MS, buffered_kb=BUFFERED_KB)) as publisher:
        replayed = send_again(letters, None if dry_run else lambda letter: replay(publisher, kafka, letter))
    sent, left = replayed.sent, len(replayed.homeless) + len(replayed.unacknowledged)
    show(form, sent, [item.position for item in sent], lambda: table_of(sent))
    for item in replayed.homeless:
        note(f"headrace: {item.position} does not say which request topic it came from, so it is left out.")
    for item in replayed.unacknowledged:
        note(f"headrace: {item.position} was not acknowledged; it may have arrived all the same.")
    note(f"{'Would send' if dry_run else 'Sent'} {len(sent):,} of {len(sent) + left:,}.")
    if replayed.error:
        note("headrace: Those after them were not tried.")
        raise replayed.error
    return Exit.FAILED if left else Exit.OK


@dataclass
class Replayed:
    """What became of the letters that were tried."""

    sent: list[Listed] = field(default_factory=list)
    #: Those that don't say where they came from.
    homeless: list[Listed] = field(default_factory=list)
    unacknowledged: list[Listed] = field(default_factory=list)
    #: Why no more were tried.
    error: ServerUnreachable | None = None


def send_again(letters: Iterable[Letter], send: Callable[[Letter], Future[None]] | None) -> Replayed:
    """Send letters, waiting for Kafka, until it does not take one; without ``send``, as if it had taken all."""
    replayed = Replayed()
    waiting: list[tuple[Listed, Future[None]]] = []
    try:
        for letter in letters:
            if not can_replay(letter):
                replayed.homeless.append(listed(letter))
            elif send is None:
                replayed.sent.append(listed(letter))
            else:
                waiting.append((listed(letter), _sent(letter, send, replayed, waiting)))
            if len(waiting) == IN_FLIGHT:
                _acknowledge(replayed, waiting)
            if replayed.error:
                break
    # What was sent before is told all the same.
    except ServerUnreachable as error:
        replayed.error = error
    _acknowledge(replayed, waiting)
    return replayed


def _sent(
    letter: Letter,
    send: Callable[[Letter], Future[None]],
    replayed: Replayed,
    waiting: list[tuple[Listed, Future[None]]],
) -> Future[None]:
    try:
        return send(letter)
    except BufferFull:
        # A few large ones fill it.
        _acknowledge(replayed, waiting)
        return send(letter)


def _acknowledge(replayed: Replayed, waiting: list[tuple[Listed, Future[None]]]) -> None:
    for item, delivery in waiting:
        try:
            delivery.result()
        except ServerUnreachable as error:
            replayed.unacknowledged.append(item)
            replayed.error = error
        else:
            replayed.sent.append(item)
    waiting.clear()


def _chosen(target: Target, kinds: Sequence[Kind], codes: Sequence[str]) -> Iterator[Letter]:
    letters = read_letters(target.settings.kafka, kinds or list(Kind))
    return (letter for letter in letters if not codes or (letter.dead and letter.dead.error_code in codes))
