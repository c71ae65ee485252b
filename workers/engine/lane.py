"""The batch of one model: rows join and leave between any two steps."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from torch import Tensor

from workers.engine.forward import Forward, prompt_batch
from workers.engine.kvcache import RowCache, capacity
from workers.engine.line import Line
from workers.engine.row import Completion, Ended, Row
from workers.engine.sampling import Picker
from workers.models import LoadedModel

#: Prompts share a prefill while the shortest has at least this share of the longest one's tokens.
_PREFILL_LIKENESS: Final = 0.5


class Lane:
    """Rows of one model, decoded together, a token each per step.

    Used by the engine's thread alone. ``waiting`` rows are admitted by ``Admission``, which knows the
    bounds over all lanes.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.waiting = Line()
        self.rows: list[Row] = []
        self.joining: list[Row] = []
        self._forward = Forward(model.module)
        self._cache = RowCache()
        self._ended: dict[Row, Completion | BaseException] = {}
        self._inputs: _Inputs  # there while there are rows
        self._clock_s = 0.0  # device time that a row which was always here would have been charged

    @property
    def active(self) -> int:
        """Rows that are decoded, or will be in the next step."""
        return len(self.rows) + len(self.joining)

    def reserved(self, *more: Row) -> int:
        """Tokens that the cache may grow to, with ``more`` rows: it is a rectangle, with memory set aside around it."""
        rows = [*self.rows, *self.joining, *more]
        if not rows:
            return 0
        return max(self._cache.allocated, capacity(len(rows), max(row.longest for row in rows)))

    def admit(self, row: Row) -> None:
        """Let a waiting row join, the first of its job."""
        self.waiting.take(row)
        self.joining.append(row)

    def step(self) -> None:
        """Prefill the rows that join, then one more token for every row."""
        self._leave_stopped()
        while self.joining:
            self._prefill(_alike(self.joining))
        if self.rows:
            self._decode()

    def take_ended(self) -> list[Ended]:
        """The rows that ended since the last call."""
        ended, self._ended = self._ended, {}
        return list(ended.items())

    def fail(self, reason: Callable[[], BaseException]) -> None:
        """Give up every row but the waiting ones, and the memory."""
        for row in (*self.rows, *self.joining):
            self._ended.setdefault(row, reason())  # some may have ended in the step that failed
        self.rows, self.joining, self._cache = [], [], RowCache()

    def put_back(self) -> None:
        """Have every row wait again, to be continued from the tokens that it has, and give up the memory."""
        for row in self.rows:
            row.device_s += self._clock_s
        rows = [row for row in (*self.rows, *self.joining) if row not in self._ended]
        for row in rows:
            row.rewind()
        self.waiting.put_back(rows)
        self.rows, self.joining, self._cache = [], [], RowCache()

    def sweep(self) -> None:
        """Drop waiting rows whose job has stopped."""
        stopped = _stopped(self.waiting)
        if stopped:
            self.waiting.remove(stopped)
            self._ended |= {row: _parting(row, reason) for row, reason in stopped.items()}

    def _leave_stopped(self) -> None:
        stopped = _stopped([*self.rows, *self.joining])
        if stopped:
            for row in self.rows:
                if row in stopped:
                    row.device_s += self._clock_s
            self._ended |= {row: _parting(row, reason) for row, reason in stopped.items()}
            self.joining = [row for row in self.joining if row not in stopped]
            self._leave([index for index, row in enumerate(self.rows) if row in stopped])

    def _prefill(self, rows: list[Row]) -> None:
        """Run what the rows have, equal prompts once, and let those that go on join the batch."""
        began_s = time.perf_counter()
        contexts = [row.context for row in rows]
        prompts = {prompt: index for index, prompt in enumerate(dict.fromkeys(contexts))}
        sources = [prompts[context] for context in contexts]
        cache = RowCache()
        logits = self._forward(*prompt_batch(list(prompts), self.model.device), cache)
        tokens = _picker(rows, self.model.device).pick(logits[sources]).tolist()
        share_s = (time.perf_counter() - began_s) / len(rows)
        stay = []
        for index, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            row.device_s += share_s - self._clock_s
            if not self._advance(row, token):
                stay.append(index)
        self.joining = [row for row in self.joining if row not in rows]
        self.rows += [rows[index] for index in stay]
        if stay:
            self._cache.join(cache, [sources[index] for index in stay])
            self._arrange()

    def _decode(self) -> None:
        began_s = time.perf_counter()
        inputs = self._inputs
        mask = inputs.mask(self._cache.width + 1)
        picked = inputs.picker.pick(self._forward(inputs.tokens, mask, inputs.positions, self._cache))
        tokens = picked.tolist()  # the one point where the device is waited for
        inputs.tokens = picked.unsqueeze(-1)
        inputs.positions += 1
        self._clock_s += (time.perf_counter() - began_s) / len(self.rows)
        steps = zip(self.rows, tokens, strict=True)
        gone = [index for index, (row, token) in enumerate(steps) if self._advance(row, token)]
        self._leave(gone)

    def _advance(self, row: Row, token: int) -> bool:
        """Give a row its next token; True where that was its end."""
        try:
            reason = row.push(token)
            if reason is None:
                return False
            row.device_s += self._clock_s
            self._ended[row] = row.complete(reason)
        except Exception as error:  # whoever listens to this row's text failed: that ends this row alone
            self._ended[row] = error
        return True

    def _leave(self, gone: Sequence[int]) -> None:
        """Close the gaps of rows that left with the last rows: as few rows as possible move."""
        count = len(self.rows) - len(gone)
        if not gone:
            return
        if not count:
            self.rows, self._cache = [], RowCache()
            return
        missing = set(gone)
        movers = (index for index in range(count, len(self.rows)) if index not in missing)
        moves = [(hole, next(movers)) for hole in sorted(missing) if hole < count]
        for hole, mover in moves:
            self.rows[hole] = self.rows[mover]
        del self.rows[count:]
        self._cache.fill(moves, count)
        self._arrange()

    def _arrange(self) -> None:
        """Rebuild what a step needs, after rows joined or left."""
        self._cache.trim(self._cache.width - max(row.cached for row in self.rows))
        self._inputs = _Inputs(self.rows, self._cache.width, self.model.device)


class _Inputs:
    """What a step needs of its rows, on the device; valid until rows join or leave."""

    def __init__(self, rows: Sequence[Row], width: int, device: torch.device) -> None:
        self.tokens = _column([row.token_ids[-1] for row in rows], device)
        self.positions = _column([row.cached for row in rows], device)
        self.picker = _picker(rows, device)
        self._padding = _column([width - row.cached for row in rows], device)
        self._padded = any(row.cached < width for row in rows)
        self._columns = torch.arange(max(row.longest for row in rows), device=device)

    def mask(self, width: int) -> Tensor | None:
        """1 where a row has a token, [rows, width]; None where all have one everywhere."""
        return (self._columns[:width] >= self._padding).long() if self._padded else None


def _stopped(rows: Iterable[Row]) -> dict[Row, BaseException]:
    """Rows whose job has to stop. Rows of one job share its check, which is called once."""
    asked: dict[Callable[[], None], BaseException | None] = {}
    stopped: dict[Row, BaseException] = {}
    for row in rows:
        if row.future.cancelled():
            stopped[row] = asyncio.CancelledError()
            continue
        if row.check not in asked:
            try:
                row.check()
                asked[row.check] = None
            except Exception as error:  # handed to whoever waits for the row
                asked[row.check] = error
        reason = asked[row.check]
        if reason is not None:
            stopped[row] = reason
    return stopped


def _parting(row: Row, reason: BaseException) -> BaseException:
    try:
        return row.leave(reason)
    except Exception as error:  # whoever listens to this row's text failed
        return error


def _alike(rows: list[Row]) -> list[Row]:
    """The shortest prompts and those of similar length, so that little is padded."""
    ordered = sorted(rows, key=lambda row: row.length)
    limit = ordered[0].length / _PREFILL_LIKENESS
    return [row for row in ordered if row.length <= limit]


def _picker(rows: Sequence[Row], device: torch.device) -> Picker:
    return Picker([(row.sampling, row.dice) for row in rows], device)


def _column(values: list[int], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).unsqueeze(-1)
