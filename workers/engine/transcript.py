"""The text of an answer while its tokens come: whole characters only, cut at the first stop string."""

from collections.abc import Callable, Sequence
from typing import Final

#: What decoders write for bytes that are no character, or not yet one.
_UNFINISHED: Final = "\ufffd"
#: A UTF-8 character has at most four bytes, so at most three of them can wait for the rest.
_UNFINISHED_CHARS: Final = 3
#: Tokens that are decoded again with each new one: enough for spacing rules that look back.
_WINDOW_TOKENS: Final = 16
#: Bytes that are no text at all would keep a window open for ever.
_LONGEST_WINDOW_TOKENS: Final = 64


class Transcript:
    """Turns tokens into text piece by piece.

    A piece is released once no later token can change it: neither complete its last character nor
    make its end the beginning of a stop string. The pieces together are ``text``.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: tuple[str, ...]) -> None:
        self._decode, self._stop = decode, stop
        self._window: list[int] = []
        self._read = 0  # characters of the decoded window that were taken
        self._anchor = 0  # tokens of the window that ended in a whole character
        self._held = ""
        self._pieces: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """Everything released so far."""
        return "".join(self._pieces)

    def push(self, token: int) -> str:
        """Add a token; returns what it released, and sets ``stopped`` at a stop string."""
        self._window.append(token)
        decoded = self._decode(self._window)
        settled = _settled(decoded)
        if len(self._window) >= _LONGEST_WINDOW_TOKENS:
            settled = len(decoded)
        fresh, self._read = decoded[self._read : settled], max(self._read, settled)
        if settled == len(decoded):
            self._slide()
        return self._release(fresh, final=False)

    def finish(self) -> str:
        """No token follows: release the rest."""
        fresh = self._decode(self._window)[self._read :]
        self._read += len(fresh)
        return self._release(fresh, final=True)

    def _slide(self) -> None:
        # The tokens since the last whole character stay as context: decoders treat a text's first
        # token in their own way (no leading space), so the next one can't be decoded alone.
        if len(self._window) >= _WINDOW_TOKENS:
            self._window = self._window[self._anchor :]
            self._read = len(self._decode(self._window))
        self._anchor = len(self._window)

    def _release(self, fresh: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        pending = self._held + fresh
        # The one that is complete first, wherever the tokens' borders are.
        found = [(at + len(stop), at) for stop in self._stop if (at := pending.find(stop)) >= 0]
        self.stopped = bool(found)
        if found:
            _, end = min(found)
        elif final:
            end = len(pending)
        else:
            end = len(pending) - self._overlap(pending)
        piece, self._held = pending[:end], pending[end:]
        if piece:
            self._pieces.append(piece)
        return piece

    def _overlap(self, pending: str) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for size in range(min(longest, len(pending)), 0, -1):
            if any(stop.startswith(pending[-size:]) for stop in self._stop):
                return size
        return 0


def _settled(decoded: str) -> int:
    """Characters that no later token can change."""
    end = len(decoded)
    while end > len(decoded) - _UNFINISHED_CHARS and decoded.endswith(_UNFINISHED, 0, end):
        end -= 1
    return end
