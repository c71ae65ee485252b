"""Who joins next, without a step."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.unit.workers.tiny_loaded import tiny_loaded
from workers.engine.admission import AGING_S, CALM_S, Admission
from workers.engine.kvcache import capacity
from workers.engine.lane import Lane
from workers.engine.row import Row
from workers.engine.sampling import Sampling

HIGH, NORMAL, BATCH = range(3)


class Hall:
    """A lane with rows that wait, an hour's clock, and who joined so far."""

    def __init__(self, max_rows: int = 64, max_tokens: int = 100_000) -> None:
        self.now_s = 0.0
        self.lane = Lane(tiny_loaded())
        self.admission = Admission(max_rows, max_tokens, lambda: self.now_s)
        self._loop = asyncio.new_event_loop()
        self._jobs: dict[str, Callable[[], None]] = {}
        self._names: dict[Row, str] = {}

    def wait(self, job: str, rows: int = 1, urgency: int = NORMAL, tokens: int = 10) -> None:
        """Have rows of a job wait."""
        check = self._jobs.setdefault(job, lambda: None)
        for _ in range(rows):
            number, future = len(self._names), self._loop.create_future()
            row = Row(
                number, self.lane.model, (5,) * tokens, Sampling(tokens), check, None, future, urgency, self.now_s
            )
            self._names[row] = job
            self.lane.waiting.append(row)

    def joined(self) -> str:
        """Let rows join; the jobs of those that have."""
        self.admission.admit([self.lane])
        return "".join(self._names[row] for row in self.lane.joining)

    def leave(self, job: str) -> None:
        """A row of the job ends."""
        self.lane.joining.remove(next(row for row in self.lane.joining if self._names[row] == job))

    def close(self) -> None:
        """Done."""
        self._loop.close()


@pytest.fixture
def hall() -> Iterator[Callable[..., Hall]]:
    made = list[Hall]()

    def make(**bounds: int) -> Hall:
        made.append(Hall(**bounds))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_jobs_of_one_priority_take_turns_by_the_rows_that_they_have(hall: Callable[..., Hall]) -> None:
    four = hall(max_rows=4)
    four.wait("a", 100)
    four.wait("b")
    four.wait("c", 2)
    assert four.joined() == "abca"
    four.leave("a")
    assert four.joined() == "bcaa"  # "c" has one, and so has "a", which came first
    four.leave("b")
    assert four.joined() == "caac"


def test_an_urgent_job_has_the_next_place_and_one_that_has_waited_long_is_urgent(hall: Callable[..., Hall]) -> None:
    one = hall(max_rows=1)
    one.wait("b", 3, BATCH)
    assert one.joined() == "b"
    one.wait("n", 2, NORMAL)
    one.wait("h", 2, HIGH)
    one.leave("b")
    assert one.joined() == "h"
    one.now_s = 2 * AGING_S
    one.wait("h", 2, HIGH)
    one.leave("h")
    assert one.joined() == "b"


def test_no_row_passes_the_first_that_has_no_memory(hall: Callable[..., Hall]) -> None:
    tight = hall(max_tokens=capacity(2, 20) + 1)
    tight.wait("a")
    assert tight.joined() == "a"
    tight.wait("L", tokens=1_000)
    tight.wait("c")
    assert tight.joined() == "a"
    tight.wait("h", urgency=HIGH)
    assert tight.joined() == "ah"
    tight.leave("a")
    tight.leave("h")
    assert tight.joined() == "L"


def test_after_an_overflow_half_as_much_is_tried_and_twice_as_much_each_time_that_went_well(
    hall: Callable[..., Hall],
) -> None:
    wide = hall(max_tokens=capacity(32, 20))
    wide.wait("a", 200)
    assert len(wide.joined()) == 32
    wide.admission.overflowed(wide.lane.reserved())
    wide.lane.put_back()
    assert len(wide.joined()) == 16
    wide.now_s = CALM_S
    assert len(wide.joined()) == 32
    wide.admission.overflowed(wide.lane.reserved())
    wide.admission.overflowed(wide.lane.reserved() // 2)
    wide.lane.put_back()
    assert len(wide.joined()) == 8
