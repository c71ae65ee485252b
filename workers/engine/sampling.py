"""How the next token of each row is chosen from the model's logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """What one answer may be: its length, its stop strings, and how its tokens are drawn.

    ``temperature`` 0 takes the likeliest token. With a ``seed``, the answer is the same each time,
    whatever shares the batch; ``choice`` tells the answers to one prompt apart.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    choice: int = 0
    stop: tuple[str, ...] = ()

    def dice(self) -> Random:
        """The source of this answer's luck: one number a token, on the CPU, the same for every device."""
        return Random() if self.seed is None else Random(f"{self.seed}/{self.choice}")


class Picker:
    """Picks the next token of every row of a batch; made anew when the batch's rows change."""

    def __init__(self, rows: Sequence[tuple[Sampling, Random]], device: torch.device) -> None:
        drawn = [(index, row) for index, row in enumerate(rows) if row[0].temperature > 0]
        self._dice = [dice for _, (_, dice) in drawn]
        if drawn:
            self._drawn = torch.tensor([index for index, _ in drawn], device=device)
            self._temperature = _column([sampling.temperature for _, (sampling, _) in drawn], device)
            self._top_p = _column([sampling.top_p for _, (sampling, _) in drawn], device)
            self._nucleus = any(sampling.top_p < 1 for _, (sampling, _) in drawn)

    def pick(self, logits: Tensor) -> Tensor:
        """The next tokens, [rows], for logits [rows, vocabulary]."""
        tokens = logits.argmax(dim=-1)
        if self._dice:
            tokens[self._drawn] = self._draw(logits[self._drawn])
        return tokens

    def _draw(self, logits: Tensor) -> Tensor:
        # The maximum is subtracted first: a tiny temperature would turn large logits into infinities.
        logits = logits.float() - logits.amax(dim=-1, keepdim=True)
        weights = (logits / self._temperature).exp().double()
        if self._nucleus:
            weights = _nucleus(weights, self._top_p)
        # Tokens keep the vocabulary's order, so that a row's draw is the same with and without
        # neighbours that ask for a nucleus.
        heights = weights.cumsum(dim=-1)
        dice = _column([dice.random() for dice in self._dice], logits.device, torch.double)
        tokens = torch.searchsorted(heights, dice * heights[:, -1:], right=True).squeeze(-1)
        return tokens.clamp_(max=logits.shape[-1] - 1)


def _nucleus(weights: Tensor, top_p: Tensor) -> Tensor:
    """Only the likeliest tokens that together reach ``top_p`` (Holtzman et al., 2019, arXiv:1904.09751).

    Tokens as likely as the last of them stay as well.
    """
    ordered = weights.sort(dim=-1, descending=True).values
    before = ordered.cumsum(dim=-1) - ordered
    last = (before < top_p * ordered.sum(dim=-1, keepdim=True)).sum(dim=-1, keepdim=True) - 1
    return torch.where(weights >= ordered.gather(-1, last.clamp_(min=0)), weights, 0.0)


def _column(values: list[float], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype).unsqueeze(-1)
