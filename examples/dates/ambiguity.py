"""Which formats can be misread: found by writing every date in every format, not by rules.

``05/03/2023`` is a day in March to one reader and in May to another, and ``3/5/23`` doesn't say
its century. Any two formats that can write one text for two dates are ambiguous, both of them.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Sequence

from examples.dates.formats import DateFormat

#: Examples are drawn from these years.
YEARS = range(1980, 2040)

#: One year (a leap year) a century before one of ``YEARS``: a format without the century writes
#: some text twice.
CENTURY_EARLIER = range(1924, 1925)


@dataclasses.dataclass(frozen=True)
class Collision:
    """A text that stands for more than one date, and who writes it for which."""

    text: str
    readings: tuple[tuple[DateFormat, datetime.date], ...]


def days_of(years: Iterable[int]) -> Iterator[datetime.date]:
    """Yield every day of ``years``, in order."""
    for year in years:
        start = datetime.date(year, 1, 1).toordinal()
        end = datetime.date(year + 1, 1, 1).toordinal()
        yield from map(datetime.date.fromordinal, range(start, end))


def collisions(formats: Sequence[DateFormat], dates: Sequence[datetime.date]) -> dict[DateFormat, Collision]:
    """Map each ambiguous format to a text that shows it; the formats not in it are proven.

    Writes ``len(formats) * len(dates)`` texts and keeps them all: about 10 µs and 300 bytes each.
    """
    readings: dict[str, list[tuple[DateFormat, datetime.date]]] = {}
    for date_format in formats:
        write = date_format.writer().write
        for date in dates:
            readings.setdefault(write(date), []).append((date_format, date))
    found: dict[DateFormat, Collision] = {}
    for text, readers in readings.items():
        if len({date for _, date in readers}) > 1:
            for date_format, _ in readers:
                found.setdefault(date_format, Collision(text, tuple(readers)))
    return found
