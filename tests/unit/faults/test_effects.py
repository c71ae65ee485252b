"""A fault that took no effect is found, and so is a process that ended without one; neither is made up."""

from dataclasses import replace

import pytest

from tests.acceptance.faults.crashes import Point
from tests.acceptance.faults.evidence import End, Evidence, Unreached, Window
from tests.acceptance.faults.promises import Broken
from tests.acceptance.faults.schedule import ALL_DISPATCHERS, Fault
from tests.acceptance.faults.verdict import judge
from tests.unit.faults.test_verdict import AGAIN, CLEAN, KEY, NEW, broken

#: Its one job was sent at 9.5 s, ran at worker-1 from 10 to 11 s, and was seen to be published at 12 s.
PASSED = replace(CLEAN, operations=(replace(NEW, sent_s=9.5), *CLEAN.operations[1:]), settled_s={KEY: 12.0})
SET = Unreached("worker-1", Point.COMMIT, 9.0, 13.0)
CRASH = End("dispatcher-1", 30.0, 1)


def unreached(evidence: Evidence, **changes: object) -> Evidence:
    return replace(evidence, unreached=(replace(SET, **changes),))  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["worker-1", ALL_DISPATCHERS])
def test_a_point_that_a_job_came_past_took_no_effect(target: str) -> None:
    for point in (Point.CLAIM, Point.COMMIT, Point.ADMISSION):
        assert broken(unreached(PASSED, target=target, point=point)) == {Broken.NO_EFFECT}


def test_a_point_that_nobody_need_have_come_past_is_no_violation() -> None:
    assert judge(unreached(PASSED, target="worker-2")) == []
    # The job may have been past it before it was set, or come to it after it was given up.
    assert judge(unreached(PASSED, begin_s=9.6)) == []
    assert judge(unreached(PASSED, end_s=11.9)) == []
    assert judge(unreached(replace(PASSED, settled_s={}))) == []
    assert judge(unreached(replace(PASSED, operations=(*PASSED.operations, replace(NEW, sent_s=8.0))))) == []
    # Where it ran at two workers, nobody knows which of them it came past.
    twice = replace(PASSED, executions=(*PASSED.executions, AGAIN))
    assert Broken.NO_EFFECT not in broken(unreached(twice))
    assert judge(unreached(PASSED, target=ALL_DISPATCHERS, point=Point.OFFSETS)) == []


def test_a_fault_that_could_not_be_made_took_no_effect() -> None:
    assert broken(replace(CLEAN, impotent=("fsync errors of postgres",))) == {Broken.NO_EFFECT}


def test_a_process_that_ends_by_itself_has_crashed() -> None:
    assert broken(replace(CLEAN, ends=(CRASH,))) == {Broken.CRASHED}
    assert broken(replace(CLEAN, ends=(replace(CRASH, name="worker-2", code=-11),))) == {Broken.CRASHED}


def test_a_fault_of_a_server_or_of_a_process_explains_an_end() -> None:
    for window in (Window(20.0, 25.0, frozenset(), Fault.LATENCY), Window(1.0, 11.0, frozenset(), Fault.TWO_BROKERS)):
        assert judge(replace(CLEAN, ends=(CRASH,), windows=(window,))) == []
        assert judge(replace(CLEAN, ends=(CRASH,), windows_before=(window,))) == []


def test_no_request_and_nothing_in_redis_explains_an_end_nor_does_a_fault_that_was_over_or_still_to_come() -> None:
    for window in (
        Window(29.0, 31.0, frozenset(), Fault.GARBAGE),
        Window(29.0, 31.0, frozenset(), Fault.WRONG_BYTES),
        Window(1.0, 9.0, frozenset(), Fault.TWO_BROKERS),
        Window(30.5, 31.0, frozenset(), Fault.KILL),
    ):
        assert broken(replace(CLEAN, ends=(CRASH,), windows=(window,))) == {Broken.CRASHED}


def test_a_server_may_end_by_what_is_done_to_its_disk() -> None:
    assert judge(replace(CLEAN, ends=(replace(CRASH, name="kafka-3"), replace(CRASH, name="postgres")))) == []
