"""Where jobs go: homes that stay, and waits that pay."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Heartbeat
from streams.credits import Worker
from streams.estimates import LOAD_S, LoadTimes, RunTimes
from streams.placement import HOLD_S, Placement
from streams.scheduler import Scheduler
from tests.unit.streams.records import beat, job

MODELS = [f"model-{number}" for number in range(60)]
fleets = st.lists(st.integers(0, 999), min_size=2, max_size=12, unique=True)


def placement(names: Sequence[str]) -> Placement:
    workers = {name: Worker(beat(name), 0.0) for name in names}
    return Placement(workers, RunTimes(), LoadTimes())


@settings(deadline=None)
@given(fleets, st.data())
def test_a_worker_that_leaves_moves_the_models_that_it_was_home_to_and_no_others(
    fleet: list[int], data: st.DataObject
) -> None:
    names = [f"worker-{number}" for number in fleet]
    gone = data.draw(st.sampled_from(names))
    before, after = placement(names), placement([name for name in names if name != gone])
    for model in MODELS:
        assert [name for name in before.homes(model) if name != gone] == list(after.homes(model))


def test_homes_are_spread_over_the_workers() -> None:
    made = placement([f"worker-{number}" for number in range(4)])
    counts = Counter(made.homes(model)[0] for model in MODELS)
    assert min(counts.values()) > len(MODELS) / 4 * 0.4


class Modulo(Placement):
    """A home by the remainder of a hash: almost every model moves when a worker leaves."""

    def homes(self, model: str) -> Sequence[str]:
        names = list(self._workers)
        start = sum(model.encode()) % len(names)
        return [*names[start:], *names[:start]]


def test_homes_that_do_not_stay_are_caught() -> None:
    names = [f"worker-{number}" for number in range(5)]
    fleet = {name: Worker(beat(name), 0.0) for name in names}
    rest = {name: worker for name, worker in fleet.items() if name != names[0]}
    before = Modulo(fleet, RunTimes(), LoadTimes())
    after = Modulo(rest, RunTimes(), LoadTimes())
    kept = [before.homes(model)[0] == after.homes(model)[0] for model in MODELS]
    assert sum(kept) < len(MODELS) / 2


def scheduler(*beats: Heartbeat) -> Scheduler:
    made = Scheduler()
    for each in beats:
        made.heartbeat(each, 0.0)
    return made


def given_at(made: Scheduler, at_s: float) -> list[tuple[str, str]]:
    return [(item.job.id, item.worker_id) for item in made.next_assignments(99, at_s)]


def test_a_worker_that_holds_the_model_is_preferred_to_one_that_is_idle() -> None:
    made = scheduler(beat("idle", slots=9), beat("warm", slots=1, models=("m",)))
    made.add([job("first"), job("other", model="n")], 0.0)
    assert given_at(made, 0.0) == [("first", "warm"), ("other", "idle")]


def test_a_job_waits_for_a_busy_worker_with_its_model_for_as_long_as_a_load_takes_and_others_go_before_it() -> None:
    made = scheduler(beat("idle", slots=9), beat("warm", slots=0, total=9, models=("m",)))
    made.add([job("m"), job("n", model="n")], 0.0)
    assert given_at(made, 0.0) == [("n", "idle")]
    made.heartbeat(beat("idle", slots=8, total=9, position=0, models=("n",)), 1.0)
    assert given_at(made, LOAD_S * 0.9) == []
    assert given_at(made, LOAD_S) == [("m", "idle")]


def test_a_job_that_waits_for_a_busy_worker_gets_the_slot_that_comes_free_there() -> None:
    made = scheduler(beat("idle", slots=9), beat("warm", slots=0, total=9, models=("m",)))
    made.add([job("m")], 0.0)
    assert given_at(made, 0.0) == []
    made.heartbeat(beat("warm", slots=1, total=9, models=("m",)), 0.5)
    assert given_at(made, 0.5) == [("m", "warm")]


def test_so_many_jobs_that_waiting_costs_more_than_loading_go_to_another_worker() -> None:
    made = scheduler(beat("idle", slots=99), beat("warm", slots=0, total=2, models=("m",)))
    made.add([job(str(number)) for number in range(50)], 0.0)
    assert len(given_at(made, 0.0)) == 50


def test_jobs_of_a_model_go_together_to_the_worker_that_loads_it() -> None:
    made = scheduler(*(beat(name, slots=9, partition=place) for place, name in enumerate("abcd")))
    made.add([job(str(number), tenant=str(number)) for number in range(9)], 0.0)
    assert len({worker for _, worker in given_at(made, 0.0)}) == 1


def test_a_worker_that_loads_a_model_gets_no_other_to_load_until_the_wait_is_over() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("m"), job("n1", model="n"), job("m2")], 0.0)
    assert given_at(made, 0.0) == [("m", "a"), ("m2", "a")]
    made.add([job("n2", model="n")], 1.0)
    made.heartbeat(beat("a", slots=9, models=("m",)), 3.0)
    assert given_at(made, 3.0) == [("n1", "a"), ("n2", "a")]


def test_a_model_that_never_loads_holds_the_others_up_for_a_bounded_time() -> None:
    made = scheduler(beat("a", slots=9))
    made.add([job("m", model="no-such-model"), job("n", model="n")], 0.0)
    assert given_at(made, 0.0) == [("m", "a")]
    assert given_at(made, HOLD_S - 0.1) == []
    assert given_at(made, HOLD_S) == [("n", "a")]


@pytest.mark.parametrize("busy", [0, 8])
def test_a_home_with_more_than_its_share_passes_jobs_on_to_others_that_hold_the_model(busy: int) -> None:
    made = placement(["a", "b"])
    home, other = made.homes("m")
    both = scheduler(
        beat(home, slots=9 - busy, total=9, partition=1, models=("m",)),
        beat(other, slots=9, total=9, partition=2, models=("m",)),
    )
    both.add([job("x")], 0.0)
    assert given_at(both, 0.0) == [("x", other if busy else home)]


def test_a_model_that_could_not_be_loaded_holds_up_no_other_once_its_job_has_ended() -> None:
    made = Scheduler()
    made.heartbeat(beat("a", slots=2, total=2), 0.0)
    made.add([job("lost", model="missing"), job("next", model="there")], 0.0)
    (lost,) = made.next_assignments(9, 0.0)
    made.sent(lost, 0)
    assert made.next_assignments(9, 0.1) == []
    made.heartbeat(beat("a", slots=2, total=2, position=1), 0.2)
    assert [item.job.id for item in made.next_assignments(9, 0.2)] == ["next"]


def test_a_busy_worker_loads_what_its_jobs_wait_for_and_nothing_else() -> None:
    """One that tells: nobody has to guess for how long a model that does not come may still be on its way."""
    made = Scheduler()
    made.heartbeat(beat("a", slots=3, total=3, models=("warm",), loading=()), 0.0)
    made.add([job("busy", model="warm"), job("lost", model="missing"), job("next", model="there")], 0.0)
    busy, lost = made.next_assignments(9, 0.0)
    made.sent(busy, 0)
    made.sent(lost, 1)
    made.heartbeat(beat("a", slots=2, total=3, position=1, models=("warm",), loading=()), 0.1)
    assert made.next_assignments(9, 0.1) == [], "the job is still on its way"
    made.heartbeat(beat("a", slots=1, total=3, position=2, models=("warm",), loading=("missing",)), 0.2)
    assert made.next_assignments(9, 0.2) == [], "its job waits for it"
    made.heartbeat(beat("a", slots=2, total=3, position=2, models=("warm",), loading=()), 0.3)
    assert [item.job.id for item in made.next_assignments(9, 0.3)] == ["next"]


def test_jobs_that_wait_for_a_worker_to_have_their_model_look_for_another_once_it_does_not_come() -> None:
    made = Scheduler()
    made.heartbeat(beat("a", slots=1, total=1), 0.0)
    made.add([job("first", model="missing"), job("second", model="missing")], 0.0)
    (first,) = made.next_assignments(9, 0.0)
    made.sent(first, 0)
    made.heartbeat(beat("b", slots=1, total=1), 0.0)
    assert made.next_assignments(9, 0.1) == []
    made.heartbeat(beat("a", slots=1, total=1, position=1), 0.2)
    assert [item.job.id for item in made.next_assignments(9, 0.2)] == ["second"]
