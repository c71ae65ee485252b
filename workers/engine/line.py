"""The rows that wait for a place in a lane, by job."""

from collections import deque
from collections.abc import Callable, Collection, Iterator

from workers.engine.row import Row


class Line:
    """Those of one job in their order; a job is told by its check."""

    def __init__(self) -> None:
        self._jobs: dict[Callable[[], None], deque[Row]] = {}

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def __iter__(self) -> Iterator[Row]:
        return (row for rows in self._jobs.values() for row in rows)

    def append(self, row: Row) -> None:
        """Let a row wait behind those of its job."""
        self._jobs.setdefault(row.check, deque()).append(row)

    def put_back(self, rows: Collection[Row]) -> None:
        """Let rows wait again, before those of their jobs that have not had a place yet."""
        for row in sorted(rows, key=lambda row: row.number, reverse=True):
            self._jobs.setdefault(row.check, deque()).appendleft(row)

    def first(self, job: Callable[[], None]) -> Row | None:
        """The next row of a job."""
        return self._jobs[job][0] if job in self._jobs else None

    def firsts(self) -> list[Row]:
        """The next row of each job."""
        return [rows[0] for rows in self._jobs.values()]

    def take(self, row: Row) -> None:
        """Take the next row of its job out."""
        rows = self._jobs[row.check]
        rows.popleft()
        if not rows:
            del self._jobs[row.check]

    def remove(self, gone: Collection[Row]) -> None:
        """Take rows out, wherever they are."""
        left = [row for row in self if row not in gone]
        self._jobs.clear()
        for row in left:
            self.append(row)
