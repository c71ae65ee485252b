"""The verdict finds each broken promise in evidence that has it, and none in evidence that has none."""

from dataclasses import replace

import pytest
from msgspec import structs

from schemas.topics import Kind
from tests.acceptance.faults.evidence import Evidence, JobRow, Letter, StatusRecord, Terminal, Window
from tests.acceptance.faults.executions import Execution
from tests.acceptance.faults.interruptions import in_flight
from tests.acceptance.faults.load import Flavour, Operation, Outcome
from tests.acceptance.faults.promises import Broken
from tests.acceptance.faults.verdict import disorders, judge
from tests.acceptance.faults.wanting import Action, Wished

KEY = ("tenant", "job")
NEW = Operation(0, *KEY, Kind.GENERATE, Flavour.NEW, b"", b"")
BAD = Operation(1, "tenant", "", Kind.GENERATE, Flavour.UNREADABLE, b"", b"")
JOB = JobRow("succeeded", 1, 1, "succeeded", "event", None, 1, in_outbox=False)
EVENT = Terminal(KEY, "tenant/job/result", "event", 1, "first:token")
LETTER = Letter(1, ("topic", 0, 0), "malformed_request")
RUN = Execution("token", *KEY, 1, 1, "worker-1", 10.0, 11.0)
AGAIN = Execution("again", *KEY, 2, 2, "worker-2", 20.0, 21.0)
STRANGER = structs.replace(RUN, token="strange", job_id="another", worker="worker-3")
CLEAN = Evidence(
    operations=(NEW, BAD),
    outcomes={0: Outcome.OK, 1: Outcome.OK},
    jobs={KEY: JOB},
    settled_s={},
    committed=(EVENT,),
    uncommitted=(EVENT,),
    regressions=(),
    statuses=(StatusRecord(KEY, 1, "running", "worker-1"), StatusRecord(KEY, 1, "succeeded", "worker-1")),
    letters=(LETTER,),
    executions=(RUN,),
    wishes=(),
    windows=(),
    windows_before=(),
    unreached=(),
    impotent=(),
    ends=(),
)


def broken(evidence: Evidence) -> set[Broken]:
    return {violation.broken for violation in judge(evidence)}


CANCEL = Wished(KEY, Action.CANCEL, 10.5)
CANCELLED = replace(JOB, state="cancelled", result_status="cancelled", error_code="cancelled", usage_rows=0)


def test_clean_evidence_holds() -> None:
    assert judge(CLEAN) == []


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (replace(CLEAN, jobs={}, committed=(), uncommitted=()), Broken.LOST),
        (replace(CLEAN, jobs={KEY: replace(JOB, state="queued", result_status=None)}), Broken.LOST),
        (replace(CLEAN, letters=()), Broken.LOST),
        (replace(CLEAN, operations=(BAD,)), Broken.INVENTED),
        (replace(CLEAN, uncommitted=(EVENT, replace(EVENT, value="another"))), Broken.DUPLICATE),
        (replace(CLEAN, jobs={KEY: replace(JOB, result="another")}), Broken.CONFLICTING),
        (replace(CLEAN, jobs={KEY: replace(JOB, result_status="failed")}), Broken.CONFLICTING),
        (replace(CLEAN, jobs={KEY: replace(JOB, usage_rows=2)}), Broken.CONFLICTING),
        (replace(CLEAN, committed=(replace(EVENT, text="other:token"),)), Broken.CONFLICTING),
        (replace(CLEAN, committed=(replace(EVENT, text="first:nobody"),)), Broken.CONFLICTING),
        (
            replace(CLEAN, committed=(replace(EVENT, text="first:strange"),), executions=(RUN, STRANGER)),
            Broken.CONFLICTING,
        ),
        (replace(CLEAN, committed=()), Broken.UNSEEN),
        (replace(CLEAN, jobs={KEY: replace(JOB, in_outbox=True)}), Broken.UNSEEN),
        (replace(CLEAN, committed=(EVENT, EVENT)), Broken.REPEATED),
        (replace(CLEAN, statuses=CLEAN.statuses[::-1]), Broken.NON_MONOTONIC),
        (replace(CLEAN, regressions=((KEY, "gone"),)), Broken.NON_MONOTONIC),
        (replace(CLEAN, executions=(RUN, AGAIN)), Broken.REEXECUTED),
        (replace(CLEAN, jobs={KEY: replace(JOB, attempt=2)}), Broken.STALE),
        # Its worker had given the lease back, and went on.
        (replace(CLEAN, jobs={KEY: replace(JOB, epoch=2)}), Broken.STALE),
        (replace(CLEAN, jobs={KEY: replace(JOB, state="failed", result_status="failed")}), Broken.UNJUST),
        (replace(CLEAN, letters=(LETTER, replace(LETTER, operation=0))), Broken.MISPLACED),
        (replace(CLEAN, jobs={KEY: CANCELLED}), Broken.UNJUST),
        (replace(CLEAN, executions=(structs.replace(RUN, ended_s=13.0),), wishes=(CANCEL,)), Broken.UNHEEDED),
        (
            replace(CLEAN, executions=(structs.replace(RUN, begun_s=13.0),), wishes=(CANCEL,)),
            Broken.UNHEEDED,
        ),
    ],
)
def test_each_broken_promise_is_found(evidence: Evidence, expected: Broken) -> None:
    assert expected in broken(evidence)


def test_a_request_that_nobody_acknowledged_may_be_lost_whole() -> None:
    unknown = {0: Outcome.UNKNOWN, 1: Outcome.UNKNOWN}
    nothing = replace(CLEAN, outcomes=unknown, jobs={}, committed=(), uncommitted=(), statuses=(), letters=())
    assert judge(nothing) == []
    assert judge(replace(CLEAN, outcomes=unknown)) == []


def test_a_fault_explains_the_executions_that_it_interrupted() -> None:
    twice = replace(CLEAN, executions=(RUN, AGAIN))
    struck = Window(10.5, 12.0, frozenset({"worker-1"}), "kill")
    assert judge(replace(twice, windows=(struck,))) == []
    assert in_flight(replace(twice, windows=(struck,))) == 1
    # Another worker, or a time when it was not in flight.
    assert broken(replace(twice, windows=(replace(struck, workers=frozenset({"worker-3"})),))) == {Broken.REEXECUTED}
    assert broken(replace(twice, windows=(replace(struck, begin_s=14.0, end_s=15.0),))) == {Broken.REEXECUTED}


POISON_KEY = ("tenant", "poison")
POISON = replace(NEW, number=2, job_id="poison", flavour=Flavour.POISON)
DEATHS = tuple(
    Execution(f"death {attempt}", *POISON_KEY, attempt, attempt, f"worker-{attempt}", 10.0 * attempt + 0.5, None)
    for attempt in (1, 2, 3)
)
POISONED = JobRow("failed", 3, 3, "failed", "poison", "poison_job", 0, in_outbox=False)
POISON_EVENT = Terminal(POISON_KEY, "tenant/poison/result", "poison", 3, "")
WITH_POISON = replace(
    CLEAN,
    operations=(*CLEAN.operations, POISON),
    outcomes={**CLEAN.outcomes, 2: Outcome.OK},
    jobs={**CLEAN.jobs, POISON_KEY: POISONED},
    committed=(EVENT, POISON_EVENT),
    uncommitted=(EVENT, POISON_EVENT),
    executions=(RUN, *DEATHS),
)


def test_a_poison_job_explains_what_its_worker_had_in_flight() -> None:
    second = replace(EVENT, attempt=2, text="first:again")
    again = replace(
        WITH_POISON,
        jobs={KEY: replace(JOB, attempt=2, epoch=2), POISON_KEY: POISONED},
        committed=(second, POISON_EVENT),
        uncommitted=(second, POISON_EVENT),
        executions=(RUN, DEATHS[0], AGAIN, *DEATHS[1:]),
    )
    assert judge(again) == []
    assert broken(replace(again, operations=(NEW, BAD, replace(POISON, flavour=Flavour.NEW)))) >= {Broken.REEXECUTED}


def test_a_poison_job_has_all_its_attempts_and_no_fewer() -> None:
    assert judge(WITH_POISON) == []
    first = replace(POISON_EVENT, attempt=1)
    gave_up = replace(
        WITH_POISON,
        jobs={KEY: JOB, POISON_KEY: replace(POISONED, attempt=1, epoch=1)},
        committed=(EVENT, first),
        uncommitted=(EVENT, first),
        executions=(RUN, DEATHS[0]),
    )
    assert broken(gave_up) == {Broken.UNJUST}
    # Counted, but never made: nothing but the job itself was wrong.
    skipped = replace(WITH_POISON, executions=(RUN, DEATHS[0], DEATHS[2]))
    assert broken(skipped) == {Broken.UNJUST}
    before_it_ran = Window(15.0, 16.0, frozenset({"worker-2"}), "kill")
    assert judge(replace(skipped, windows=(before_it_ran,))) == []


def test_an_innocent_job_ends_as_poison_only_if_faults_have_struck_each_attempt() -> None:
    innocent = replace(WITH_POISON, operations=(*CLEAN.operations, replace(POISON, flavour=Flavour.NEW)))
    windows = tuple(Window(death.begun_s, death.begun_s + 1, frozenset({death.worker}), "kill") for death in DEATHS)
    assert judge(replace(innocent, windows=windows)) == []
    assert Broken.UNJUST in broken(innocent)
    # As many faults, but one of them at another worker, or at a time when it had ended.
    elsewhere = replace(windows[2], workers=frozenset({"worker-1"}))
    assert broken(replace(innocent, windows=(*windows[:2], elsewhere))) == {Broken.UNJUST}
    harmless = replace(windows[2], workers=frozenset())
    assert broken(replace(innocent, windows=(*windows[:2], harmless))) == {Broken.UNJUST}
    # A fault may also cost it an attempt that was leased and never begun.
    unbegun = replace(innocent, executions=(RUN, *DEATHS[:2]), windows=windows)
    assert judge(unbegun) == []
    # Or one that was given back where it ran.
    paused = replace(innocent, windows=windows[:1], wishes=(Wished(POISON_KEY, Action.PAUSE, 10.6),))
    assert Broken.UNJUST not in broken(paused)


def test_a_late_word_of_another_process_is_counted_as_disorder() -> None:
    late = StatusRecord(KEY, 1, "scheduled", "")
    assert judge(replace(CLEAN, statuses=(*CLEAN.statuses, late))) == []
    assert len(list(disorders(replace(CLEAN, statuses=(*CLEAN.statuses, late))))) == 1
    assert list(disorders(CLEAN)) == []


def test_a_job_may_end_as_cancelled_once_its_client_wants_that_or_before_it_hears() -> None:
    stopped = replace(CLEAN, jobs={KEY: CANCELLED}, executions=(structs.replace(RUN, ended_s=None),), wishes=(CANCEL,))
    assert judge(stopped) == []
    assert judge(replace(stopped, wishes=(replace(CANCEL, taken_s=None),))) == []
    assert judge(replace(CLEAN, wishes=(CANCEL,))) == []


def test_a_job_may_go_on_after_its_cancel_while_a_fault_keeps_it_from_hearing() -> None:
    late = replace(CLEAN, executions=(structs.replace(RUN, ended_s=13.0),), wishes=(CANCEL,))
    assert judge(replace(late, windows=(Window(5.0, 6.0, frozenset(), "latency"),))) == []
    assert broken(replace(late, windows=(Window(1.0, 2.0, frozenset(), "latency"),))) == {Broken.UNHEEDED}


def test_a_job_that_was_paused_runs_again_in_the_same_attempt() -> None:
    again = structs.replace(AGAIN, attempt=1)
    statuses = (StatusRecord(KEY, 1, "running", "worker-1"), StatusRecord(KEY, 1, "scheduled", "worker-1"))
    paused = replace(CLEAN, executions=(structs.replace(RUN, ended_s=None), again), statuses=statuses)
    assert broken(paused) == {Broken.REEXECUTED, Broken.NON_MONOTONIC}
    assert judge(replace(paused, wishes=(Wished(KEY, Action.PAUSE, 10.5),))) == []
