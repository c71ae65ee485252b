"""The attention memory of a batch whose rows come and go.

Every row is aligned at its right end, so that all of them write the same column next and a model's
own masks (causal, sliding window, ALiBi) hold as they do for left-padded prompts in ``generate``::

    column   start ........ end | room for the next tokens
    row 0    k k k k k k k k k k|
    row 1    . . . . k k k k k k|     '.' is padding: hidden by the attention mask, always finite
    row 2    . . . . . . . k k k|

Against transformers' DynamicCache, which copies everything at each token, a token here writes one
column into memory that was set aside.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

#: Columns set aside at least; then half of the width, so that moves cost a constant share of the work.
ROOM_COLUMNS: Final = 64
#: Rows are set aside by so many; below, by powers of two.
ROOM_ROWS: Final = 8
#: Memory of which less than this part is needed is given up.
NEEDED: Final = 1 / 4


def capacity(rows: int, width: int) -> int:
    """Tokens for which there is memory once ``rows`` rows have moved that are ``width`` columns wide."""
    return _rows(rows) * (width + _room(width))


class KvLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """One layer's keys and values, each [rows, heads, columns, head size] in a larger buffer."""

    is_sliding = False
    is_croppable = False
    keys: Tensor
    values: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.rows = self.start = self.end = 0

    @property
    def width(self) -> int:
        """Columns in use: the tokens of the longest row."""
        return self.end - self.start

    @property
    def allocated(self) -> int:
        """Tokens for which there is memory."""
        return len(self.keys) * self.keys.shape[-2]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with as many rows as the first tokens have, and no column in use."""
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.rows = len(key_states)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append tokens to every row; returns all keys and values, [rows, heads, width, head size]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        tokens = key_states.shape[-2]
        if self.end + tokens > self.keys.shape[-2]:
            self._move(rows=self.rows, width=self.width, room=tokens + _room(self.width + tokens))
        new_end = self.end + tokens
        self.keys[: self.rows, :, self.end : new_end] = key_states
        self.values[: self.rows, :, self.end : new_end] = value_states
        self.end = new_end
        return self._used(self.keys), self._used(self.values)

    def join(self, other: "KvLayer", picked: Tensor) -> None:
        """Append the ``picked`` rows of another batch; one that is picked twice joins twice."""
        if not self.is_initialized:
            self.lazy_initialization(other.keys[:0], other.values[:0])
        rows, width = self.rows + len(picked), max(self.width, other.width)
        if rows > len(self.keys) or self.end < width:
            self._move(rows=rows, width=width, room=_room(width))
        new_start = self.end - width
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            # Padding is written too: what a former row left there could be NaN, and 0 x NaN is NaN.
            mine[: self.rows, :, new_start : self.start] = 0
            mine[self.rows : rows, :, new_start : self.end - other.width] = 0
            mine[self.rows : rows, :, self.end - other.width : self.end] = other._used(theirs)[picked]
        self.rows, self.start = rows, new_start

    def fill(self, holes: Tensor, movers: Tensor, rows: int) -> None:
        """Move the rows ``movers`` into the places ``holes``, then keep the first ``rows``."""
        if len(holes):
            for buffer in (self._used(self.keys), self._used(self.values)):
                buffer.index_copy_(0, holes, buffer.index_select(0, movers))
        self.rows = rows

    def shrink(self) -> None:
        """Move into less memory where much more is set aside than is needed."""
        if capacity(self.rows, self.width) < NEEDED * self.allocated:
            self._move(rows=self.rows, width=self.width, room=_room(self.width))

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that a mask for ``query_length`` new tokens spans, and the first one."""
        return self.width + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.width

    def get_max_length(self) -> int:
        """No bound."""
        return -1

    def _used(self, buffer: Tensor) -> Tensor:
        return buffer[: self.rows, :, self.start : self.end]

    def _move(self, *, rows: int, width: int, room: int) -> None:
        """Into new memory for ``rows`` rows of ``width`` columns and ``room`` more at the right."""
        used = self.width
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = old.new_zeros(_rows(rows), old.shape[1], width + room, old.shape[3])
            if used:
                new[: self.rows, :, width - used : width] = self._used(old)
            setattr(self, name, new)
        self.start, self.end = width - used, width


class RowCache(Cache):
    """A ``KvLayer`` for each layer of a model, made as the model first writes to it."""

    layers: list[KvLayer]  # type: ignore[assignment]  # of all layer classes, ours alone is put here

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=KvLayer)

    @property
    def width(self) -> int:
        """Columns in use: the tokens of the longest row."""
        return self.layers[0].width if self.layers else 0

    @property
    def allocated(self) -> int:
        """Tokens of keys and values for which there is memory."""
        return self.layers[0].allocated if self.layers else 0

    def join(self, other: "RowCache", picked: Sequence[int]) -> None:
        """Append the ``picked`` rows of another batch of the same model."""
        if not self.layers:
            self.layers = [KvLayer() for _ in other.layers]
        index = torch.tensor(picked, device=other.layers[0].keys.device)
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs, index)

    def fill(self, moves: Sequence[tuple[int, int]], rows: int) -> None:
        """Move rows into the places of those that left (``[(hole, mover)]``), then keep the first ``rows``."""
        device = self.layers[0].keys.device
        holes = torch.tensor([hole for hole, _ in moves], device=device, dtype=torch.long)
        movers = torch.tensor([mover for _, mover in moves], device=device, dtype=torch.long)
        for layer in self.layers:
            layer.fill(holes, movers, rows)

    def trim(self, columns: int) -> None:
        """Forget the first ``columns`` columns, which are padding in every row, and give up memory if much is left."""
        for layer in self.layers:
            layer.start += columns
            layer.shrink()


def _room(width: int) -> int:
    return max(ROOM_COLUMNS, width // 2)


def _rows(rows: int) -> int:
    return 1 << (rows - 1).bit_length() if rows < ROOM_ROWS else -(-rows // ROOM_ROWS) * ROOM_ROWS
