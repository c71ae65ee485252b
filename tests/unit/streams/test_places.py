"""Jobs that wait are told their place when it changes, and not more often than others can bear."""

from collections.abc import Sequence

from runtime.kafka import OnDelivery, Publisher
from schemas.codec import decode
from schemas.events import State, StatusEvent
from schemas.topics import Kind
from streams.places import PLACES_JOBS, PLACES_S, Places
from streams.scheduler import Scheduler
from tests.unit.streams.records import beat, job


class Kept(Publisher):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self._source = "test"
        self.events: list[StatusEvent] = []

    def publish_raw(
        self,
        topic: str,  # noqa: ARG002
        key: bytes | None,  # noqa: ARG002
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],  # noqa: ARG002
        partition: int = -1,  # noqa: ARG002
        on_delivery: OnDelivery | None = None,  # noqa: ARG002
    ) -> None:
        self.events.append(decode(StatusEvent, value or b""))


def test_a_waiting_job_is_told_its_place_and_again_when_it_has_changed() -> None:
    made, kept = Scheduler(), Kept()
    places = Places(kept)
    made.heartbeat(beat("a", slots=1, models=("m",)), 0.0)
    made.add([job("a"), job("b"), job("c")], 0.0)
    places.tell(made.outlooks(PLACES_JOBS), 0.0)
    places.tell(made.outlooks(PLACES_JOBS), 1.0)
    assert [(event.job_id, event.state, event.queue_position) for event in kept.events] == [
        ("a", State.QUEUED, 0),
        ("b", State.QUEUED, 1),
        ("c", State.QUEUED, 2),
    ]
    assert all(event.starts_in_s is not None for event in kept.events)
    made.next_assignments(1, 2.0)
    places.tell(made.outlooks(PLACES_JOBS), 2.0)
    assert [(event.job_id, event.queue_position) for event in kept.events[3:]] == [("b", 0), ("c", 1)]


def test_fewer_than_fifty_places_a_second_are_told_however_many_wait() -> None:
    made, kept = Scheduler(), Kept()
    made.add((job(f"{kind}{number}", kind=kind) for kind in Kind for number in range(500)), 0.0)
    Places(kept).tell(made.outlooks(PLACES_JOBS), 0.0)
    assert len(kept.events) == len(Kind) * PLACES_JOBS
    assert len(kept.events) / PLACES_S < 50


def test_places_are_told_once_in_a_while() -> None:
    places = Places(Kept())
    places.tell([], 100.0)
    assert not places.due(100.0 + PLACES_S - 0.1)
    assert places.due(100.0 + PLACES_S)
