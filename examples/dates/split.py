"""Who learns from which date: each date is used once, so no split can leak into another."""

import dataclasses
import datetime
import itertools
import random
from collections.abc import Iterator, Sequence

from examples.dates.formats import DateFormat

#: Examples a split. The test set comes first: a longer training set leaves it as it was.
SIZES = {"test": 600, "validation": 300, "train": 10_000}

#: Between prompt and answer. A newline is one token of its own in every tokenizer that we know,
#: so prompt and completion can be tokenised apart.
SEPARATOR = "\n"


@dataclasses.dataclass(frozen=True)
class Example:
    """One line of the data set: what the model reads, what it answers, where it is from."""

    prompt: str
    completion: str
    locale: str
    format: str


def splits(formats: Sequence[DateFormat], dates: Sequence[datetime.date], seed: int) -> dict[str, list[Example]]:
    """Draw the splits: dates at random, languages in equal parts, formats in turn.

    Raises:
        ValueError: there are fewer dates than examples.
    """
    if len(dates) < sum(SIZES.values()):
        raise ValueError(f"{len(dates)} dates for {sum(SIZES.values())} examples: add years")
    shuffled = random.Random(seed).sample(dates, sum(SIZES.values()))
    remaining = iter(shuffled)
    drawn = {}
    for name, size in SIZES.items():
        pairs = zip(_in_turn(formats), itertools.islice(remaining, size), strict=False)
        drawn[name] = [_example(date_format, date) for date_format, date in pairs]
    return drawn


def _in_turn(formats: Sequence[DateFormat]) -> Iterator[DateFormat]:
    """Yield formats for ever: locale after locale, and each locale's formats in order."""
    by_locale: dict[str, list[DateFormat]] = {}
    for date_format in formats:
        by_locale.setdefault(date_format.locale, []).append(date_format)
    cycles = [itertools.cycle(of_locale) for of_locale in by_locale.values()]
    while True:
        yield from (next(cycle) for cycle in cycles)


def _example(date_format: DateFormat, date: datetime.date) -> Example:
    text = date_format.writer().write(date)
    return Example(text + SEPARATOR, date.isoformat(), date_format.locale, date_format.name)
