"""Samples to tensors: several short ones packed into a row, or one a row with others of about its length.

Rows are padded on the right. A token sees only what is before it, so padding needs no mask: nothing
that is trained ever sees it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from workers.training.samples import Sample

#: A packed row is at least so long, where samples are shorter. Attention costs the row's square, padding its rest.
PACKED_ROW_TOKENS: Final = 128
#: Tokens of one forward pass: bounds the memory of activations and logits; a step has as many passes as it needs.
PASS_TOKENS: Final = 8_192
#: Rows of one padded batch differ by at most this factor.
PADDED_LENGTH_RATIO: Final = 1.5


@dataclass(frozen=True)
class Batch:
    """One forward pass.

    ``input_ids`` [rows, length]; ``position_ids`` [rows, length] restart with each sample of a packed row, and are
    None where each row is one sample. ``sources`` [trained] are the flat positions whose logits predict
    ``targets`` [trained].
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor | None
    sources: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        positions = self.position_ids
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            None if positions is None else positions.to(device, non_blocking=True),
            self.sources.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
        )


def packed(samples: Sequence[Sample]) -> Iterator[Batch]:
    """Batches whose rows hold several samples, which the positions keep apart."""
    rows = _first_fit(sorted(samples, key=len, reverse=True), PACKED_ROW_TOKENS)
    # Rows of about the same length come together.
    for group in _passes(rows, [sum(map(len, row)) for row in rows]):
        yield _batch(group, positions=True)


def padded(samples: Sequence[Sample]) -> Iterator[Batch]:
    """Batches of a sample a row, all of about the same length."""
    ordered = sorted(samples, key=len, reverse=True)
    for group in _passes([[sample] for sample in ordered], [len(sample) for sample in ordered]):
        yield _batch(group, positions=False)


def _first_fit(samples: Sequence[Sample], row_tokens: int) -> list[list[Sample]]:
    """Each sample into the first row with room for it, the longest first (Johnson, 1973)."""
    capacity = max(row_tokens, len(samples[0]))
    rows: list[list[Sample]] = []
    room: list[int] = []
    for sample in samples:
        size = len(sample)
        row = next((index for index, free in enumerate(room) if free >= size), None)
        if row is None:
            rows.append([sample])
            room.append(capacity - size)
        else:
            rows[row].append(sample)
            room[row] -= size
    return rows


def _passes(rows: Sequence[list[Sample]], lengths: Sequence[int]) -> Iterator[list[list[Sample]]]:
    """Rows, longest first, cut where a pass would have too many tokens or too much padding."""
    order = sorted(range(len(rows)), key=lambda index: -lengths[index])
    group: list[list[Sample]] = []
    longest = lengths[order[0]]
    for index in order:
        full = (len(group) + 1) * longest > PASS_TOKENS
        if group and (full or lengths[index] * PADDED_LENGTH_RATIO < longest):
            yield group
            group, longest = [], lengths[index]
        group.append(rows[index])
    yield group


def _batch(rows: Sequence[Sequence[Sample]], *, positions: bool) -> Batch:
    length = max(sum(map(len, row)) for row in rows)
    input_ids = np.zeros((len(rows), length), dtype=np.int64)
    # Padding is at position 0 each time, so that it is a sample of its own to the model.
    position_ids = np.zeros((len(rows), length), dtype=np.int64)
    sources: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    for index, row in enumerate(rows):
        start = 0
        for sample in row:
            end = start + len(sample)
            input_ids[index, start:end] = sample.ids
            position_ids[index, start:end] = np.arange(len(sample))
            # The logits of a token predict the next one.
            first = index * length + start + sample.prompt_tokens - 1
            sources.append(np.arange(first, first + sample.trained_tokens))
            targets.append(sample.ids[sample.prompt_tokens :])
            start = end
        # Padding repeats a token of the row: an id of its own would be taken for padding that lacks a mask.
        input_ids[index, start:] = row[0].ids[0]
    return Batch(
        torch.from_numpy(input_ids),
        torch.from_numpy(position_ids) if positions else None,
        torch.from_numpy(np.concatenate(sources)),
        torch.from_numpy(np.concatenate(targets)),
    )
