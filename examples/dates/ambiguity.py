"""Which formats can be misread: found by writing every date in every format, not by rules.

``05/03/2023`` is a day in March to one reader and in May to another, ``Sun, 10/1/2023`` is one in October
in the United States and would be one in January in Britain, and ``3/5/23`` doesn't say its century. Any two
formats that can write one text for two dates are ambiguous, both of them.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Sequence

from examples.dates.formats import DateFormat

#: Examples are drawn from these years.
YEARS = range(1990, 2030)

#: One year (a leap year) a century before one of ``YEARS``: a format without the century writes
#: some text twice.
CENTURY_EARLIER = range(1924, 1925)


#: Who takes a text to be which date.
Reading = tuple[DateFormat, datetime.date]


@dataclasses.dataclass(frozen=True)
class Collision:
    """A text that stands for more than one date, and who writes it for which."""

    text: str
    readings: tuple[Reading, ...]


def days_of(years: Iterable[int]) -> Iterator[datetime.date]:
    """Yield every day of ``years``, in order."""
    for year in years:
        start = datetime.date(year, 1, 1).toordinal()
        end = datetime.date(year + 1, 1, 1).toordinal()
        yield from map(datetime.date.fromordinal, range(start, end))


def collisions(
    formats: Sequence[DateFormat], dates: Sequence[datetime.date], readers: Iterable[DateFormat] = ()
) -> dict[DateFormat, Collision]:
    """Map each ambiguous one of ``formats`` to a text that shows it; the formats not in it are proven.

    ``readers`` are further formats that people may take a text to be in. All are tried on all dates, at 10 µs each;
    the texts of ``formats`` are kept, at 300 bytes each.
    """
    readings: dict[str, list[Reading]] = {}
    for date_format in formats:
        write = date_format.writer().write
        for date in dates:
            readings.setdefault(write(date), []).append((date_format, date))
    for reader in readers:
        write = reader.writer().write
        for date in dates:
            known = readings.get(write(date))
            if known and known[0][1] != date:
                known.append((reader, date))
    return _ambiguous(readings, set(formats))


def _ambiguous(readings: dict[str, list[Reading]], formats: set[DateFormat]) -> dict[DateFormat, Collision]:
    found: dict[DateFormat, Collision] = {}
    for text, known in readings.items():
        if len({date for _, date in known}) > 1:
            for date_format in formats.intersection(date_format for date_format, _ in known):
                found.setdefault(date_format, Collision(text, tuple(known)))
    return found
