"""Who holds a connection, in words: a thread or a task, where it borrowed, and where it is now."""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final

from runtime.pools.errors import Holding
from runtime.pools.ledger import Place, Stack

log = logging.getLogger(__name__)

#: Frames of a borrower's stack that are kept, the innermost ones.
STACK_FRAMES: Final = 12


def captured(frame: FrameType | None) -> Stack:
    """The lines that led to ``frame``, innermost first: nothing is read or formatted before it is shown."""
    lines: list[tuple[str, int, str]] = []
    while frame is not None and len(lines) < STACK_FRAMES:
        lines.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return tuple(lines)


def holding(place: Place[Any], now_s: float) -> Holding:
    """Who has the place: in a message to somebody who got none."""
    return Holding(named(place.holder), now_s - place.lent_at_s, stack=_shown(place.stack))


def holdings(places: Iterable[Place[Any]], now_s: float, limit: int | None) -> list[Holding]:
    """Who has the places, those first that have them for longest; ``limit`` of them."""
    longest = sorted(places, key=lambda place: place.lent_at_s)[:limit]
    return [holding(place, now_s) for place in longest]


def report_overdue(pool: str, places: Iterable[Place[Any]], now_s: float) -> None:
    """Log borrows that take too long, with the borrower's stack, and where the borrower is now."""
    for place in places:
        held, at = holding(place, now_s), whereabouts(place.holder)
        log.warning("pool %s: %s; it is now at\n%s", pool, held, at or "an end: it has forgotten to give back")


def report_abandoned(pool: str, place: Place[Any], now_s: float) -> None:
    """Log a borrow whose borrower was collected as garbage."""
    held = holding(place, now_s)
    log.warning("pool %s: %s and has dropped it without giving it back; it is closed", pool, held)


def named(holder: object) -> str:
    """A thread by its number, or a task, by name."""
    if isinstance(holder, asyncio.Task):
        return f"task {holder.get_name()!r}"
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return f"thread {names.get(holder, holder)!r}" if isinstance(holder, int) else str(holder)


def whereabouts(holder: object) -> str:
    """Where a thread or a task is at this moment; empty where it has ended."""
    if isinstance(holder, asyncio.Task):
        frames = holder.get_stack(limit=1) if not holder.done() else []
        return _shown(captured(frames[-1])) if frames else ""
    frame = sys._current_frames().get(holder) if isinstance(holder, int) else None
    return _shown(captured(frame)) if frame else ""


def _shown(stack: Stack) -> str:
    return "".join(traceback.StackSummary.from_list([(*line, None) for line in reversed(stack)]).format()).rstrip()
