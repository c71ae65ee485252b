"""The history of metrics: what the bridge has read goes to Postgres, thinned, and is lost while Postgres is away."""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from runtime.database import Database
from runtime.database.group_commit import Bounds, GroupCommit, GroupCommitClosed, Pending, RoomTimeout
from runtime.database.partitions import PartitionKeeper
from runtime.database.samples import PARTITIONS, MetricSample, Stored, store
from schemas.errors import ServerUnreachable
from schemas.events import MetricsEvent, Sample
from streams.instruments import Instruments

log = logging.getLogger(__name__)

MINUTE_S: Final = 60
#: A value that does not change is stored every so many minutes.
REPEAT_MINUTES: Final = 10
#: Series that are known at once, about 200 bytes each; of a process that comes late none are kept.
SERIES: Final = 20_000
#: What an index of Postgres takes is 2,700 bytes a row.
NAME_BYTES: Final = 1_000
SOURCE_BYTES: Final = 200
#: A process that was not heard of for so long is gone, as for the bridge.
SILENT_S: Final = 300.0
#: Nobody waits for a sample, so a batch may gather for long. It is no larger, for what writes it keeps the event loop
#: from its interpreter. Some 10 MB may wait for Postgres.
BOUNDS: Final = Bounds(rows=1_000, linger_s=1.0, held_rows=20_000)
#: An outage that is shorter costs no sample.
PATIENCE_S: Final = 60.0
CLOSE_S: Final = 0.5


class _Source:
    """A process: its last minute, and the value of each series that was stored last, with its minute."""

    __slots__ = ("minute", "seen_s", "values")

    def __init__(self) -> None:
        self.minute = -1
        self.seen_s = 0.0
        self.values: dict[str, tuple[float, int]] = {}


class Thinner:
    """Picks what is stored of metrics events: one sample a series and minute, and fewer of what does not change.

    The buckets of histograms are left out, which would be nine samples of ten; their sums and counts are kept.
    """

    def __init__(self, most_series: int = SERIES) -> None:
        self._most_series = most_series
        self._sources: dict[str, _Source] = {}
        self._series = 0

    def pick(self, event: MetricsEvent) -> tuple[list[MetricSample], int]:
        """The samples to be stored of an event, and how many were refused for the bounds of this history."""
        minute = int(event.at.timestamp()) // MINUTE_S
        source = self._source(event.source)
        if source is None:
            return [], 1
        if minute == source.minute:
            return [], 0
        source.minute = minute
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
        picked, refused = [], 0
        for name, value in _series(event):
            known = source.values.get(name)
            if known and known[0] == value and minute - known[1] < REPEAT_MINUTES:
                continue
            if known is None:
                if self._series >= self._most_series or not _fits(name, NAME_BYTES):
                    refused += 1
                    continue
                self._series += 1
            source.values[name] = (value, minute)
            picked.append(MetricSample(event.source, name, at, value))
        return picked, refused

    def clear(self) -> None:
        """Forget everything."""
        self._sources.clear()
        self._series = 0

    def _source(self, name: str) -> _Source | None:
        now_s = time.monotonic()
        source = self._sources.get(name)
        if source is None:
            self._forget_before(now_s - SILENT_S)
            if self._series >= self._most_series or not _fits(name, SOURCE_BYTES):
                return None
            source = self._sources[name] = _Source()
        source.seen_s = now_s
        return source

    def _forget_before(self, limit_s: float) -> None:
        for name in [name for name, source in self._sources.items() if source.seen_s < limit_s]:
            self._series -= len(self._sources.pop(name).values)


class History:
    """Stores metrics events for ``days`` days; nothing here waits for Postgres, and nothing fails for its sake."""

    def __init__(self, database: Database, days: int, instruments: Instruments) -> None:
        self._samples = instruments.samples
        #: What was said last against samples: it is the same for thousands of them.
        self._objection = ""
        self._thinner = Thinner()
        self._commit: GroupCommit[MetricSample, Stored] = GroupCommit(
            database, partial(store, days=days), BOUNDS, patience_s=PATIENCE_S
        )
        self._keeper = PartitionKeeper(database, PARTITIONS, days)

    def take(self, event: MetricsEvent) -> None:
        """Hand in what is to be stored of an event."""
        picked, refused = self._thinner.pick(event)
        if refused:
            self._samples.labels("refused").inc(refused)
        for number, sample in enumerate(picked):
            try:
                self._commit.submit(sample, timeout_s=0.0).add_done_callback(self._count)
            except (RoomTimeout, GroupCommitClosed):
                self._samples.labels("lost").inc(len(picked) - number)
                return

    def clear(self) -> None:
        """Forget what was stored last: another process does this now."""
        self._thinner.clear()

    def close(self) -> None:
        """Store what waits, as far as that is done in ``CLOSE_S``."""
        self._keeper.close()
        self._commit.close(CLOSE_S)

    def _count(self, answer: Pending[MetricSample, Stored]) -> None:
        error = answer.exception()
        if error is None:
            self._samples.labels(answer.result().value).inc()
        elif isinstance(error, (ServerUnreachable, GroupCommitClosed)):
            self._samples.labels("lost").inc()
        else:
            self._samples.labels("refused").inc()
            if str(error) != self._objection:
                self._objection = str(error)
                log.warning("Samples are not stored: %s", error)


def _series(event: MetricsEvent) -> Iterator[tuple[str, float]]:
    for family in event.families:
        for sample in family.samples:
            if "le" not in sample.labels:
                yield _name(sample), sample.value


def _name(sample: Sample) -> str:
    """Name and labels as in Prometheus' text format, the labels in their order."""
    if not sample.labels:
        return sample.name
    labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _fits(name: str, most_bytes: int) -> bool:
    """Whether Postgres takes it as part of a key."""
    with suppress(UnicodeEncodeError):
        return len(name.encode()) <= most_bytes and "\0" not in name
    return False
