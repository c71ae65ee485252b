"""The scheduler: who gets which job, and that no slot is given twice or lost."""

from collections import Counter

from msgspec.structs import replace

from schemas.events import Heartbeat, Slots
from schemas.topics import Kind
from streams.lanes import Lane
from streams.lone import PATIENCE_S
from streams.scheduler import Assignment, Scheduler
from streams.waiting import AGING_S
from tests.unit.streams.records import beat, job


def names(assignments: list[Assignment]) -> list[str]:
    return [assignment.job.id for assignment in assignments]


def scheduler(*beats: Heartbeat, queue_jobs: int = 100) -> Scheduler:
    made = Scheduler(queue_jobs)
    for each in beats:
        made.heartbeat(each, 0.0)
    return made


def test_jobs_go_by_priority_then_by_age() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("new"), job("old", age_s=9), job("batch", priority=2, age_s=99), job("high", priority=0)], 0.0)
    assert names(made.next_assignments(9, 0.0)) == ["high", "old", "new", "batch"]


def test_jobs_of_the_same_age_go_in_the_order_of_their_coming() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("first"), job("second"), job("third")], 0.0)
    assert names(made.next_assignments(9, 0.0)) == ["first", "second", "third"]


def test_no_worker_gets_more_than_its_slots() -> None:
    made = scheduler(beat("a", slots=2), beat("b", slots=1))
    made.add((job(str(number)) for number in range(9)), 0.0)
    assert Counter(item.worker_id for item in made.next_assignments(9, 0.0)) == {"a": 2, "b": 1}
    assert made.next_assignments(9, 0.0) == []
    assert made.waiting(Kind.GENERATE) == 6


def complete(made: Scheduler) -> Scheduler:
    made.refill(Kind.GENERATE, [], 0.0, complete=True)
    return made


def test_new_jobs_go_at_once_where_there_is_a_slot_and_the_others_are_not_kept() -> None:
    made = complete(scheduler(beat("a", slots=2)))
    given = made.place(Kind.GENERATE, [job("first"), job("second"), job("high", priority=0), job("first")], 0.0)
    assert names(given) == ["high", "first"]
    assert (len(made), made.free(Kind.GENERATE)) == (0, 0)
    made.release(given[0])
    assert made.free(Kind.GENERATE) == 1


def test_new_jobs_leave_a_slot_to_each_that_waits_and_wait_behind_those_that_the_database_may_have() -> None:
    made = scheduler(beat("a", slots=2))
    made.add([job("old")], 0.0)
    assert made.place(Kind.GENERATE, [job("new")], 0.0) == []
    assert names(complete(made).place(Kind.GENERATE, [job("new"), job("newer")], 0.0)) == ["new"]
    assert made.place(Kind.GENERATE, [job("newest")], 0.0) == []
    assert names(made.next_assignments(9, 0.0)) == ["old"]


def test_where_jobs_wait_for_their_model_new_ones_of_it_wait_with_them_and_no_other_is_loaded_first() -> None:
    made = complete(scheduler(beat("holder", slots=1, models=("m",)), beat("other", slots=9, models=("n",))))
    made.add([job("running", model="m"), job("waits", model="m")], 0.0)
    assert names(made.next_assignments(9, 0.0)) == ["running"]
    coming = [job("behind", model="m"), job("cold", model="o"), job("free", model="n")]
    assert names(made.place(Kind.GENERATE, coming, 0.0)) == ["free"]


def test_a_part_of_what_a_worker_takes_ahead_is_for_new_jobs_of_tenants_of_whom_nobody_waits() -> None:
    made = complete(scheduler(beat("a", slots=12, total=12, ahead=8)))
    made.add([job(f"f{number}", tenant="flood") for number in range(20)], 0.0)
    assert len(made.next_assignments(99, 0.0)) == 10
    coming = [job("f99", tenant="flood"), job("batch", tenant="quiet", priority=2), job("new", tenant="quiet")]
    assert names(made.place(Kind.GENERATE, coming, 0.0)) == ["new"]
    made.add([job("high", tenant="another", priority=0)], 0.0)
    assert made.place(Kind.GENERATE, [job("normal", tenant="third")], 0.0) == []
    assert names(made.place(Kind.GENERATE, [job("urgent", tenant="third", priority=0)], 0.0)) == ["urgent"]
    assert made.place(Kind.GENERATE, [job("late", tenant="fourth", priority=0)], 0.0) == []


def test_a_worker_that_takes_nothing_ahead_leaves_no_slot_empty_for_new_jobs() -> None:
    made = complete(scheduler(beat("a", slots=12, total=12, ahead=0)))
    made.add([job(f"f{number}", tenant="flood") for number in range(20)], 0.0)
    assert len(made.next_assignments(99, 0.0)) == 12


def test_a_new_job_of_another_kind_goes_at_once() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("busy"), job("waits")], 0.0)
    made.next_assignments(9, 0.0)
    made.refill(Kind.FINETUNE, [], 0.0, complete=True)
    assert names(made.place(Kind.FINETUNE, [job("tune", kind=Kind.FINETUNE)], 0.0)) == ["tune"]
    assert made.waiting(Kind.GENERATE) == 1


def test_a_kind_whose_workers_are_full_holds_up_no_other() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("f1", kind=Kind.FINETUNE, priority=0), job("f2", kind=Kind.FINETUNE, priority=0), job("g")], 0.0)
    assert sorted(names(made.next_assignments(9, 0.0))) == ["f1", "g"]


def test_where_memory_is_full_the_largest_tenant_gives_way_with_its_last_jobs() -> None:
    made = scheduler(beat("a", slots=9), queue_jobs=3)
    made.add([job("flood1", tenant="flood"), job("flood2", tenant="flood"), job("flood3", tenant="flood")], 0.0)
    made.add([job("flood4", tenant="flood"), job("quiet", tenant="quiet"), job("tune", kind=Kind.FINETUNE)], 0.0)
    assert sorted(names(made.next_assignments(9, 0.0))) == ["flood1", "quiet", "tune"]
    made.refill(Kind.GENERATE, [], 0.0, complete=True)
    assert made.wants_more(Kind.GENERATE)


def test_where_memory_is_full_a_tenant_s_urgent_job_takes_the_place_of_a_lesser_one() -> None:
    made = scheduler(beat("a", slots=9), queue_jobs=2)
    made.add([job("batch1", priority=2), job("batch2", priority=2), job("high", priority=0)], 0.0)
    assert names(made.next_assignments(9, 0.0)) == ["high", "batch1"]


def test_a_job_that_waits_is_not_added_again() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("a"), job("a")], 0.0)
    made.refill(Kind.GENERATE, [job("a")], 0.0, complete=True)
    assert names(made.next_assignments(9, 0.0)) == ["a"]


def test_a_lane_asks_for_more_only_where_there_is_room_and_the_database_has_more() -> None:
    made = scheduler(queue_jobs=4)
    assert made.wants_more(Kind.GENERATE)
    made.refill(Kind.GENERATE, [job("a"), job("b")], 0.0, complete=False)
    assert made.wants_more(Kind.GENERATE)
    made.refill(Kind.GENERATE, [job("c"), job("d"), job("e")], 0.0, complete=False)
    assert not made.wants_more(Kind.GENERATE)
    made.remove("default", "c")
    assert not made.wants_more(Kind.GENERATE)
    made.remove("default", "d")
    assert made.wants_more(Kind.GENERATE)
    made.refill(Kind.GENERATE, [], 0.0, complete=True)
    assert made.wants_more(Kind.GENERATE)
    made.refill(Kind.GENERATE, [], 0.0, complete=True)
    assert not made.wants_more(Kind.GENERATE)


def test_a_job_that_was_cancelled_is_given_to_nobody() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("a"), job("b"), job("last", lost_attempts=2)], 0.0)
    assert made.remove("default", "a")
    assert made.remove("default", "last")
    assert not made.remove("default", "a")
    assert names(made.next_assignments(9, 0.0)) == ["b"]
    assert len(made) == 0


def test_a_job_moves_up_a_level_each_time_it_has_waited_long_enough() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("batch", priority=2), job("normal")], AGING_S)
    assert names(made.next_assignments(1, AGING_S)) == ["normal"]
    aged = scheduler(beat("a", slots=1))
    aged.add([job("batch", priority=2)], 0.0)
    aged.add([job("fresh")], 1.5 * AGING_S)
    assert names(aged.next_assignments(1, 1.5 * AGING_S)) == ["batch"]


def test_a_job_that_waited_before_this_process_began_has_aged_by_that() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("fresh"), job("batch", priority=2, age_s=AGING_S)], 0.0)
    made.add([job("high", priority=0), job("ancient", priority=2, age_s=9 * AGING_S)], 0.0)
    assert names(made.next_assignments(1, 0.0)) == ["ancient"]


def test_tenants_take_turns_by_cost() -> None:
    made = scheduler(beat("a", slots=12))
    made.add((job(f"dear{number}", tenant="dear", cost=3_000) for number in range(9)), 0.0)
    made.add((job(f"cheap{number}", tenant="cheap", cost=1_000) for number in range(9)), 0.0)
    served = Counter(item.job.tenant for item in made.next_assignments(12, 0.0))
    assert served == {"dear": 3, "cheap": 9}


def test_the_next_jobs_know_their_place_and_about_when_they_start() -> None:
    made = scheduler(beat("a", slots=1, models=("m",)))
    made.add([job("a"), job("b"), job("batch", priority=2), job("high", priority=0)], 0.0)
    made.next_assignments(1, 0.0)
    outlooks = {item.job.id: item for item in made.outlooks(9)}
    assert [outlooks[name].position for name in ("a", "b", "batch")] == [0, 1, 2]
    assert 0 < outlooks["a"].starts_in_s < outlooks["b"].starts_in_s < outlooks["batch"].starts_in_s
    last = made.outlook("default", "batch")
    assert last
    assert last.position == 2
    assert made.outlook("default", "high") is None


def test_a_flood_of_one_tenant_s_is_not_before_another_s_only_job() -> None:
    made = scheduler()
    made.add((job(str(number), tenant="flood") for number in range(50)), 0.0)
    made.add([job("only", tenant="quiet")], 0.0)
    only, last = made.outlook("quiet", "only"), made.outlook("flood", "49")
    assert only
    assert last
    assert (only.position, last.position) == (0, 50)


def test_a_slot_counts_as_taken_until_a_heartbeat_from_after_the_record() -> None:
    made = scheduler(beat("a", slots=1, position=5))
    made.add([job("first"), job("second"), job("third")], 0.0)
    (first,) = made.next_assignments(9, 0.0)
    made.heartbeat(beat("a", slots=1, position=5), 1.0)
    assert made.next_assignments(9, 0.0) == []
    made.sent(first, 5)
    made.heartbeat(beat("a", slots=1, position=5), 2.0)
    assert made.next_assignments(9, 0.0) == []
    made.heartbeat(beat("a", slots=1, position=6), 3.0)
    assert names(made.next_assignments(9, 0.0)) == ["second"]


def test_a_heartbeat_may_be_faster_than_the_delivery_report() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("first"), job("second")], 0.0)
    (first,) = made.next_assignments(9, 0.0)
    made.heartbeat(beat("a", slots=1, position=1), 1.0)
    assert made.free(Kind.GENERATE) == 0
    made.sent(first, 0)
    assert names(made.next_assignments(9, 0.0)) == ["second"]


def test_a_heartbeat_that_is_older_than_another_changes_nothing() -> None:
    made = scheduler(beat("a", slots=0, position=9))
    assert not made.heartbeat(beat("a", slots=5, position=8), 1.0)
    assert made.free(Kind.GENERATE) == 0


def test_a_slot_whose_job_was_not_leased_is_free_again() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("gone"), job("next")], 0.0)
    (gone,) = made.next_assignments(9, 0.0)
    made.release(gone)
    made.release(gone)
    assert made.free(Kind.GENERATE) == 1


def test_a_slot_whose_job_was_never_taken_is_free_once_the_lease_is_over() -> None:
    made = scheduler(beat("a", slots=1))
    made.add([job("lost")], 0.0)
    made.sent(made.next_assignments(9, 10.0)[0], 0)
    made.release_lost(10.0)
    assert made.free(Kind.GENERATE) == 0
    made.release_lost(10.1)
    assert made.free(Kind.GENERATE) == 1


def test_workers_that_leave_drain_or_fall_silent_get_nothing() -> None:
    made = scheduler(beat("leaving"), beat("draining"), beat("silent"))
    made.heartbeat(replace(beat("leaving"), leaving=True), 5.0)
    made.heartbeat(replace(beat("draining"), draining=True), 5.0)
    made.add([job("a")], 0.0)
    assert made.remove_silent(1.0) == ["silent"]
    assert made.workers == 1
    assert made.next_assignments(9, 0.0) == []


def test_a_worker_that_takes_over_a_partition_replaces_the_one_before() -> None:
    made = scheduler(beat("before", partition=3), beat("after", partition=3))
    made.add([job("a")], 0.0)
    assert made.workers == 1
    assert [item.worker_id for item in made.next_assignments(9, 0.0)] == ["after"]


def last_attempt(*beats: Heartbeat) -> Scheduler:
    made = scheduler(*beats)
    made.add([job("last", lost_attempts=2)], 0.0)
    return made


def test_a_last_attempt_has_an_idle_worker_to_itself_until_it_is_done() -> None:
    made = last_attempt(beat("a", slots=2, total=2))
    (last,) = made.next_assignments(9, 0.0)
    made.add([job("other"), job("tune", kind=Kind.FINETUNE)], 0.0)
    assert made.next_assignments(9, 0.0) == []
    made.sent(last, 0)
    made.heartbeat(beat("a", slots=1, total=2, position=1), 1.0)
    assert made.next_assignments(9, 1.0) == []
    made.heartbeat(beat("a", slots=2, total=2, position=1), 2.0)
    assert names(made.next_assignments(9, 2.0)) == ["other", "tune"]


def test_a_last_attempt_goes_to_no_worker_that_has_something_to_do() -> None:
    made = last_attempt(beat("busy", slots=1, total=2))
    assert made.next_assignments(9, 0.0) == []


def test_a_worker_is_kept_free_for_a_last_attempt_that_has_waited() -> None:
    made = last_attempt(beat("a", slots=1, total=2), beat("b", slots=0, total=2))
    made.add([job("first"), job("second"), job("third")], 0.0)
    assert names(made.next_assignments(9, 0.0)) == ["first"]
    made.heartbeat(beat("a", slots=1, total=2, position=1), PATIENCE_S)
    assert made.next_assignments(9, PATIENCE_S) == []
    made.heartbeat(beat("b", slots=1, total=2), PATIENCE_S)
    assert names(made.next_assignments(9, PATIENCE_S)) == ["second"]


def test_a_worker_whose_last_attempt_was_not_leased_is_open_to_all_again() -> None:
    made = last_attempt(beat("a", total=2))
    (last,) = made.next_assignments(9, 0.0)
    made.release(last)
    made.add([job("other")], 0.0)
    assert names(made.next_assignments(9, 0.0)) == ["other"]


def test_a_worker_that_lost_its_partition_does_not_come_back() -> None:
    made = scheduler(beat("old", slots=9), beat("new", slots=9))
    made.heartbeat(replace(beat("new", slots=9), worker_id="newest", partition=beat("old").partition), 1.0)
    assert made.workers == 2
    assert not made.heartbeat(beat("old", slots=9, position=99), 2.0)
    assert (made.workers, made.free(Kind.GENERATE)) == (2, 18)


def test_a_last_attempt_without_a_worker_for_its_kind_holds_up_none_of_another_kind() -> None:
    writer = replace(beat("a", slots=2), free=Slots(generate=2), slots=Slots(generate=2))
    made = scheduler(writer)
    made.add([job("tune", kind=Kind.FINETUNE, lost_attempts=2, age_s=9), job("write", lost_attempts=2)], 0.0)
    assert names(made.next_assignments(9, PATIENCE_S)) == ["write"]


def test_a_model_that_nobody_waits_for_any_more_waits_anew() -> None:
    made = scheduler(beat("holder", slots=1, models=("m",)))
    made.add([job("running", model="m"), job("waits", model="m")], 0.0)
    assert names(made.next_assignments(9, 0.0)) == ["running"]
    made.next_assignments(9, 1.0)
    lane = made._lanes[Kind.GENERATE]
    assert made.remove("default", "waits")
    assert lane.parking.waited_s("m", 1_000.0) == 0.0
    assert (lane.parking._since_s, lane.parking._due_s, len(lane.parking)) == ({}, {}, 0)


def test_a_job_of_a_model_whose_last_job_was_taken_back_gets_its_turn() -> None:
    lane = Lane()
    lane.push(job("waits", model="m"), 0.0)
    flow = lane.next_flow()
    assert flow is not None
    lane.parking.hold("m", 0.0, 5.0, cold=True)
    lane.parking.park(flow)
    assert lane.next_flow() is None
    lane.remove(lane.jobs["default", "waits"])
    lane.push(job("next", model="m"), 1.0)
    flow = lane.next_flow()
    assert flow is not None
    assert lane.take(flow).id == "next"
