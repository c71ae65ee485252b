"""Points of the work at which a process kills itself, when a file says so: hooks on the driver, none in our code.

Statements are known by what they write. "After" a transaction is when its connection goes back to the
pool; "before" one is when its first statement of the kind is about to be sent.
"""

import os
import re
import signal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool


class Point(StrEnum):
    """Where to die."""

    #: Worker: its handler has begun.
    CLAIM = "claim"
    #: Worker: the handler has its result, and nothing of it is written.
    COMPUTE = "compute"
    #: Worker: the result is committed, and nobody knows.
    COMMIT = "commit"
    #: Dispatcher: leases are committed, with their jobs or later, and no worker was told.
    LEASE = "lease"
    #: Dispatcher: jobs are committed, and the chunk is not acknowledged.
    ADMISSION = "admission"
    #: Dispatcher: terminal events are in Kafka, and their outbox rows are still there.
    PRODUCE = "produce"
    #: Dispatcher: the offsets of what is durable are committed.
    OFFSETS = "offsets"


SETTLES: Final = re.compile(r"INSERT INTO results\b.*\bsettled\b", re.DOTALL)
LEASES: Final = re.compile(r"UPDATE jobs\s+SET state = 'scheduled'|INSERT INTO jobs\b.*'scheduled'", re.DOTALL)
ADMITS: Final = re.compile(r"INSERT INTO jobs\b")
FORGETS: Final = re.compile(r"DELETE FROM outbox\b")

_BEFORE: Final = {Point.COMPUTE: SETTLES, Point.PRODUCE: FORGETS}
_AFTER: Final = {Point.COMMIT: SETTLES, Point.LEASE: LEASES, Point.ADMISSION: ADMITS}


class Crash:
    """Dies at the point that the file names; the file is gone then, and nobody else dies who shares it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def reached(self, point: Point) -> None:
        """Die here, if this is the point."""
        try:
            if self._file.read_text() != point:
                return
            self._file.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def watch_database(self) -> None:
        """Look at every statement that this process sends from now on."""
        event.listen(Engine, "before_cursor_execute", self._before)
        event.listen(Engine, "after_cursor_execute", self._after)
        event.listen(Pool, "checkin", self._given_back)

    def watch_offsets(self, consumer: Any) -> None:
        """Look at every commit of offsets by aiokafka's class ``consumer`` from now on."""
        commit = consumer.commit

        async def committed(reader: Any, offsets: Any = None) -> None:
            await commit(reader, offsets)
            self.reached(Point.OFFSETS)

        consumer.commit = committed

    def _before(self, connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        del connection
        for point, pattern in _BEFORE.items():
            if pattern.search(statement):
                self.reached(point)

    def _after(self, connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        written: set[Point] = connection.connection.info.setdefault("headrace.faults", set())
        written.update(point for point, pattern in _AFTER.items() if pattern.search(statement))

    def _given_back(self, _connection: Any, record: Any) -> None:
        for point in record.info.pop("headrace.faults", set()):
            self.reached(point)
