"""The history of metrics: samples of the processes' series, kept for some days."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import Connection

from runtime.database.batches import Insert
from runtime.database.columns import Columns
from runtime.database.partitions import AHEAD_DAYS, DayPartitions, day_of
from runtime.database.prepared import prepared

PARTITIONS: Final = DayPartitions("metric_samples")
#: Not by COPY: events are read again after a crash, and a repeat has to change nothing.
INSERT_SAMPLES: Final = Insert(
    "metric_samples",
    Columns(source="text", series="text", at="timestamptz", value="double precision"),
    keys=("source", "series", "at"),
)

SELECT_SERIES: Final = prepared("""
    SELECT at, value FROM metric_samples
    WHERE source = :source AND series = :series
      AND at >= CAST(:since AS timestamptz) AND at < CAST(:until AS timestamptz)
    ORDER BY at
    LIMIT :most
""")

SELECT_NAMES: Final = prepared("""
    SELECT DISTINCT source, series FROM metric_samples
    WHERE at >= CAST(:since AS timestamptz) AND at < CAST(:until AS timestamptz)
    ORDER BY source, series
    LIMIT :most
""")

#: A week of one series.
MOST_POINTS: Final = 7 * 24 * 60
MOST_NAMES: Final = 10_000


class MetricSample(NamedTuple):
    """A value of a series at the beginning of a minute; ``source`` is the life of a process."""

    source: str
    series: str
    at: datetime
    value: float


class Point(NamedTuple):
    """A value of a known series."""

    at: datetime
    value: float


class Stored(StrEnum):
    """What became of a sample."""

    NEW = "stored"
    #: It was there: of a minute the first one counts.
    KNOWN = "known"
    #: Its day is over and dropped, or not yet near: the clock of its process is wrong.
    OUTSIDE = "outside"


def store(connection: Connection, samples: Sequence[MetricSample], days: int) -> list[Stored]:
    """Add samples of the last ``days`` days; what became of each. A repeat changes nothing.

    A day that has no partition gets one, for the time when nobody was there to make it ahead.
    """
    today, known = PARTITIONS.days(connection)
    window = (today - timedelta(days=days), today + timedelta(days=AHEAD_DAYS))
    inside = [window[0] <= day_of(sample.at) <= window[1] for sample in samples]
    kept = [sample for sample, is_inside in zip(samples, inside, strict=True) if is_inside]
    if missing := {day_of(sample.at) for sample in kept} - known:
        PARTITIONS.make(connection, missing)
    new = iter(INSERT_SAMPLES(connection, kept))
    return [(Stored.NEW if next(new) else Stored.KNOWN) if is_inside else Stored.OUTSIDE for is_inside in inside]


def series(
    connection: Connection, source: str, name: str, since: datetime, until: datetime, most: int = MOST_POINTS
) -> list[Point]:
    """The first ``most`` values of a series from ``since`` until before ``until``, in their order.

    A value that does not change is stored every ten minutes only, so it holds until the next.
    """
    arguments = {"source": source, "series": name, "since": since, "until": until, "most": most}
    return [Point(row.at, row.value) for row in connection.execute(SELECT_SERIES, arguments)]


def names(connection: Connection, since: datetime, until: datetime, most: int = MOST_NAMES) -> list[tuple[str, str]]:
    """Source and name of the series that have a value in this time, at most ``most``; it reads all that lies there."""
    arguments = {"since": since, "until": until, "most": most}
    return [(row.source, row.series) for row in connection.execute(SELECT_NAMES, arguments)]
