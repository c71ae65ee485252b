"""The queue is read to its end, then near its end, and from its beginning again."""

from datetime import timedelta

from runtime.database.queue import BEGINNING, Mark, Page
from streams.sweep import OVERLAP_S, Sweep
from tests.unit.streams.records import NOW


def mark(seconds: float, name: str = "") -> Mark:
    return Mark(NOW + timedelta(seconds=seconds), "default" if name else "", name)


def test_the_first_reading_goes_page_by_page_to_the_end() -> None:
    sweep = Sweep()
    sweep.went_on(Page([], mark(1, "a"), last=False))
    assert (sweep.old, sweep.new) == (mark(1, "a"), None)
    sweep.went_on(Page([], mark(9), last=True))
    assert (sweep.old, sweep.new) == (BEGINNING, mark(9).before(OVERLAP_S))


def test_new_jobs_are_read_from_a_little_before_the_present() -> None:
    sweep = Sweep(new=mark(5))
    sweep.kept_up(Page([], mark(6, "b"), last=False))
    assert sweep.new == mark(6, "b")
    sweep.kept_up(Page([], mark(9), last=True))
    assert sweep.new == mark(9 - OVERLAP_S)
