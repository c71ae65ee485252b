"""Confidence intervals by resampling examples (Efron, 1979, Annals of Statistics 7, percentile method)."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.results import Interval

#: Enough that the interval's ends differ by about a hundredth of its width from seed to seed.
RESAMPLES: Final = 10_000
#: Resamples of very large datasets, whose intervals are narrow, are fewer: this many draws take seconds.
DRAWS: Final = 1_000_000_000
FEWEST_RESAMPLES: Final = 1_000
#: Draws that are in memory at once.
_CHUNK_DRAWS: Final = 2**20
_TAILS: Final = (0.025, 0.975)

Numbers = NDArray[np.float64]


def resampled_sums(values: Numbers, seed: int, check: Callable[[], None]) -> Numbers:
    """Sums over examples drawn with replacement, [resamples, columns], for ``values`` [examples, columns].

    The columns of a resample are sums over the same examples, so differences of columns are paired.
    The same seed gives the same sums. ``check`` is called now and then and may raise.
    """
    examples = len(values)
    resamples = resamples_of(examples)
    rows = max(1, _CHUNK_DRAWS // examples)
    generator = np.random.default_rng(seed)
    sums = []
    for begin in range(0, resamples, rows):
        check()
        sums.append(_counts(generator, min(rows, resamples - begin), examples) @ values)
    return np.concatenate(sums)


def resamples_of(examples: int) -> int:
    """How many resamples a dataset of this size gets."""
    return min(RESAMPLES, max(FEWEST_RESAMPLES, DRAWS // examples))


def interval(mean: float, resampled: Numbers) -> Interval:
    """The statistic of the examples, and where 95 % of those of the resamples lie."""
    low, high = np.quantile(resampled, _TAILS)
    return Interval(float(mean), float(low), float(high))


def _counts(generator: np.random.Generator, rows: int, examples: int) -> Numbers:
    """How often each resample drew each example, [rows, examples]."""
    draws = generator.integers(examples, size=(rows, examples)) + np.arange(rows)[:, None] * examples
    return np.bincount(draws.ravel(), minlength=rows * examples).reshape(rows, examples).astype(np.float64)
