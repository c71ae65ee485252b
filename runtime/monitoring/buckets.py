"""A histogram's buckets in an event: the empty ones, which are most of them, are left out and put back.

Prometheus has to get them all: it adds up the series of a bound, and one that begins later than the others has lost
what it counted until then.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from schemas import limits
from schemas.events import MetricFamily, Sample

LAST: Final = "+Inf"


def without_empty(samples: Sequence[Sample]) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """The bounds of a histogram, and its samples but for the buckets that hold no more than the one below.

    Each series' buckets follow each other in ascending order, and all series have the same ones.
    """
    bounds = tuple(dict.fromkeys(sample.labels["le"] for sample in samples if "le" in sample.labels))
    if len(bounds) > limits.BUCKETS:
        return (), tuple(samples)
    kept, below = [], 0.0
    for sample in samples:
        bound = sample.labels.get("le")
        if bound in (None, LAST) or sample.value != below:
            kept.append(sample)
        if bound is not None:
            below = 0.0 if bound == LAST else sample.value
    return bounds, tuple(kept)


def with_empty(family: MetricFamily) -> Iterator[Sample]:
    """A family's samples with the buckets that its event left out; nothing is missing of one without bounds."""
    places = {bound: place for place, bound in enumerate(family.bounds)}
    following, below = 0, 0.0
    for sample in family.samples:
        place = places.get(sample.labels.get("le", ""))
        if place is None:
            yield sample
            continue
        for bound in family.bounds[following:place]:
            yield Sample(sample.name, below, {**sample.labels, "le": bound})
        yield sample
        following, below = place + 1, sample.value
        if following == len(family.bounds):
            following, below = 0, 0.0
