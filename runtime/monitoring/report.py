"""Everything that a process knows of its operations and its machine, as JSON; reports of many processes add up."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from runtime.monitoring.intervals import Interval
from runtime.monitoring.monitored import Operations
from runtime.monitoring.operation import Reading
from runtime.monitoring.sketch import Sketch, merged
from runtime.monitoring.system import SystemReading
from runtime.monitoring.trends import change_points, slope
from runtime.monitoring.windows import Window
from schemas.errors import HeadraceError

VERSION: Final = 1
#: What ``recent`` looks back over.
RECENT_S: Final = 300.0
HOUR_S: Final = 3_600.0
Count = Annotated[int, Meta(ge=0)]


class ReportInvalid(HeadraceError):
    """Bytes that are no report, or one that a later version wrote."""

    code = "invalid_report"


class Durations(Struct, frozen=True, kw_only=True):
    """Percentiles are right to 1 %, the rest exactly."""

    count: Count
    mean_s: float
    min_s: float
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    max_s: float


class RecentReport(Struct, frozen=True, kw_only=True):
    """The last ``span_s``; the error ratio is of the calls that were not cancelled, its bounds are at 95 %."""

    span_s: float
    returned: Count
    errors: Count
    cancelled: Count
    error_ratio: Interval
    durations: Durations | None


class Jump(Struct, frozen=True, kw_only=True):
    """Where the median of a window's calls changed; ``p`` is the probability of that without a cause."""

    ago_s: float
    p50_before_s: float
    p50_after_s: float
    p: float


class OperationReport(Struct, frozen=True, kw_only=True):
    """One operation since its process started. ``sketch`` holds the durations of calls that returned."""

    name: str
    errors: dict[str, Count]
    cancelled: Count
    in_flight: Count
    durations: Durations | None
    failed_durations: Durations | None
    recent: RecentReport | None = None
    #: How the windows' medians move, with bounds at 95 %.
    p50_slope_s_per_h: Interval | None = None
    jumps: tuple[Jump, ...] = ()
    sketch: bytes
    failed_sketch: bytes


class Report(Struct, frozen=True, kw_only=True):
    """One process, or the sum of many."""

    version: int = VERSION
    sources: tuple[str, ...]
    at: datetime
    system: SystemReading | None
    operations: tuple[OperationReport, ...]

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "Report":
        """The report of ``encode``'s bytes.

        Raises:
            ReportInvalid: they are of another form or version.
        """
        try:
            report = msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ReportInvalid(f"{len(data):,} bytes are no report: {error}. Take what Report.encode gave.") from error
        if report.version != VERSION:
            raise ReportInvalid(f"A report has version {report.version}; this reads {VERSION}. Use the same release.")
        return report


def report_schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Report)}


def report(operations: Operations, source: str, system: SystemReading | None = None) -> Report:
    """What the process ``source`` knows now."""
    made = []
    for operation in operations.all():
        reading = operation.reading()
        if reading.durations.count or reading.errors or reading.cancelled or reading.in_flight:
            recent = operation.recent(RECENT_S)
            told = RecentReport(
                span_s=RECENT_S,
                returned=recent.returned,
                errors=recent.errors,
                cancelled=recent.cancelled,
                error_ratio=recent.error_ratio(),
                durations=_durations(recent.durations),
            )
            made.append(_operation(reading, told, operation.clock()))
    return Report(sources=(source,), at=datetime.now(UTC), system=system, operations=tuple(made))


def add_up(reports: Sequence[Report]) -> Report:
    """One report of all processes: counts add up, sketches merge. What is of lately, or of a machine, is left out.

    There is at least one.

    Raises:
        SketchInvalid: a report holds a sketch that is none.
    """
    by_name: dict[str, list[OperationReport]] = {}
    for one in reports:
        for operation in one.operations:
            by_name.setdefault(operation.name, []).append(operation)
    return Report(
        sources=tuple(source for one in reports for source in one.sources),
        at=max(one.at for one in reports),
        system=None,
        operations=tuple(_sum(name, parts) for name, parts in sorted(by_name.items())),
    )


def _operation(reading: Reading, recent: RecentReport, now_s: float) -> OperationReport:
    windows = [window for window in reading.windows if window.returned]
    medians = [window.p50_s for window in windows]
    moves = slope([window.begins_s for window in windows], medians)
    return OperationReport(
        name=reading.name,
        errors=reading.errors,
        cancelled=reading.cancelled,
        in_flight=reading.in_flight,
        durations=_durations(reading.durations),
        failed_durations=_durations(reading.failed),
        recent=recent,
        p50_slope_s_per_h=moves and Interval(moves.value * HOUR_S, moves.low * HOUR_S, moves.high * HOUR_S),
        jumps=tuple(_jumps(windows, medians, now_s)),
        sketch=reading.durations.encode(),
        failed_sketch=reading.failed.encode(),
    )


def _jumps(windows: Sequence[Window], medians: Sequence[float], now_s: float) -> Iterable[Jump]:
    for point in change_points(medians):
        yield Jump(
            ago_s=now_s - windows[point.index].begins_s,
            p50_before_s=point.before,
            p50_after_s=point.after,
            p=point.p,
        )


def _sum(name: str, parts: Sequence[OperationReport]) -> OperationReport:
    durations = merged(Sketch.decode(part.sketch) for part in parts)
    failed = merged(Sketch.decode(part.failed_sketch) for part in parts)
    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(part.errors)
    return OperationReport(
        name=name,
        errors=dict(errors),
        cancelled=sum(part.cancelled for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        durations=_durations(durations),
        failed_durations=_durations(failed),
        sketch=durations.encode(),
        failed_sketch=failed.encode(),
    )


def _durations(sketch: Sketch) -> Durations | None:
    if not sketch.count:
        return None
    p50, p90, p95, p99 = (sketch.quantile(share) for share in (0.5, 0.9, 0.95, 0.99))
    return Durations(
        count=sketch.count,
        mean_s=sketch.mean_s(),
        min_s=sketch.min_s,
        p50_s=p50,
        p90_s=p90,
        p95_s=p95,
        p99_s=p99,
        max_s=sketch.max_s,
    )
