"""What of the metrics events goes into the history, and that nothing here waits or fails for Postgres' sake."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from sqlalchemy import Connection

from runtime.database import Database
from runtime.database.group_commit import Bounds
from runtime.monitoring import Metrics
from runtime.settings import Settings
from schemas.codec import encode
from schemas.errors import ServerUnreachable
from schemas.events import MetricFamily, MetricsEvent, Sample
from streams import samples
from streams.chunks import Chunk
from streams.instruments import Instruments
from streams.metrics import Bridge
from streams.samples import REPEAT_MINUTES, History, Thinner
from tests.unit.streams.records import FakeRecord

START = datetime(2026, 11, 27, 12, 0, 20, tzinfo=UTC)


def event(
    *found: Sample, source: str = "worker-1", after_s: float = 0.0, start: datetime = START, sequence: int = 0
) -> MetricsEvent:
    family = MetricFamily("headrace_x", "gauge", "", found or (Sample("headrace_x", 1.0),))
    return MetricsEvent(
        source=source, service="worker", sequence=sequence, at=start + timedelta(seconds=after_s), families=(family,)
    )


def values(thinner: Thinner, *given: MetricsEvent) -> list[tuple[str, float]]:
    return [(sample.series, sample.value) for one in given for sample in thinner.pick(one)[0]]


def x(value: float, **labels: str) -> Sample:
    return Sample("headrace_x", value, labels)


def test_of_a_minute_the_first_value_is_kept_at_its_beginning() -> None:
    thinner = Thinner()
    assert values(thinner, *(event(x(after), after_s=after) for after in (0, 5, 39, 40, 45))) == [
        ("headrace_x", 0), ("headrace_x", 40),
    ]  # fmt: skip
    picked, _ = thinner.pick(event(x(9), after_s=100))
    assert picked[0].at == datetime(2026, 11, 27, 12, 2, tzinfo=UTC)
    assert picked[0].source == "worker-1"


def test_a_value_that_does_not_change_is_kept_every_ten_minutes() -> None:
    thinner = Thinner()
    picked = [minute for minute in range(25) if values(thinner, event(x(1.0), after_s=60 * minute))]
    assert picked == [0, REPEAT_MINUTES, 2 * REPEAT_MINUTES]


def test_buckets_are_left_out_and_sums_and_counts_are_kept() -> None:
    metrics = Metrics("worker")
    metrics.histogram("headrace_wait_seconds", "Waits.", ("kind",)).labels("generate").observe(2.0)
    kept = {name for name, _ in values(Thinner(), metrics.event())}
    assert {name for name in kept if "wait" in name} == {
        'headrace_wait_seconds_sum{kind="generate"}',
        'headrace_wait_seconds_count{kind="generate"}',
    }


def test_a_series_is_named_by_all_its_labels_in_one_order() -> None:
    named = values(Thinner(), event(x(1, b='say "hi"\n', a="\\")))
    assert named == [(r'headrace_x{a="\\",b="say \"hi\"\n"}', 1)]


def test_each_process_has_minutes_and_values_of_its_own() -> None:
    thinner = Thinner()
    assert len(values(thinner, event(source="a"), event(source="b"), event(source="a"))) == 2


def test_a_clock_that_was_set_back_goes_on() -> None:
    thinner = Thinner()
    assert len(values(thinner, event(x(1), after_s=86_400), event(x(2)), event(x(3), after_s=60))) == 3


def test_the_number_of_series_is_bounded_and_known_ones_go_on() -> None:
    thinner = Thinner(most_series=2)
    picked, refused = thinner.pick(event(x(1, a="1"), x(1, a="2"), x(1, a="3")))
    assert (len(picked), refused) == (2, 1)
    assert thinner.pick(event(source="another")) == ([], 1)
    assert len(values(thinner, event(x(2, a="1"), x(2, a="3"), after_s=60))) == 1


def test_a_process_that_is_gone_leaves_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    thinner = Thinner(most_series=1)
    assert values(thinner, event())
    monkeypatch.setattr(samples, "SILENT_S", -1.0)
    assert values(thinner, event(source="another"))
    thinner.clear()
    assert values(thinner, event(source="a third"))


@pytest.mark.parametrize("label", ["a\0b", "é" * 501], ids=["character 0", "too long"])
def test_what_postgres_can_not_keep_is_refused_alone(label: str) -> None:
    picked, refused = Thinner().pick(event(x(1, a=label), x(2)))
    assert ([sample.value for sample in picked], refused) == ([2], 1)
    assert Thinner().pick(event(source=label)) == ([], 1)


class Away:
    """A database that is not there, or that answers nobody."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        self.answers.wait()
        if self.answers.is_set():
            raise ServerUnreachable("Postgres", "here", "it is away")
        yield cast(Connection, None)


def counted(metrics: Metrics, fate: str) -> float:
    """How many samples came to this."""
    families = {family.name: family for family in metrics.event().families}
    samples = families["headrace_history_samples"].samples
    return sum(sample.value for sample in samples if sample.labels["fate"] == fate)


def test_while_postgres_answers_nobody_the_page_goes_on_and_samples_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "BOUNDS", Bounds(held_rows=30))
    database = Away()
    metrics = Metrics("dispatcher")
    instruments = Instruments(metrics)
    history = History(cast(Database, database), 14, instruments)
    bridge = Bridge(instruments, history)
    series = [x(number, a=str(number)) for number in range(10)]
    # By now, or the bridge takes them for history.
    events = [event(*series, source=f"worker-{number}", start=datetime.now(UTC)) for number in range(4)]
    asyncio.run(bridge.events(Chunk([FakeRecord(encode(one)) for one in events])))
    families = [family for family in bridge.collect() if family.name == "headrace_x"]
    assert len(families[0].samples) == 40
    assert counted(metrics, "lost") == 10
    database.answers.set()
    history.close()


def test_a_history_that_is_closed_takes_no_more_and_says_nothing() -> None:
    database = Away()
    database.answers.set()
    metrics = Metrics("dispatcher")
    instruments = Instruments(metrics)
    with closing(History(cast(Database, database), 14, instruments)) as history:
        pass
    history.take(event())
    assert counted(metrics, "lost") == 1


def test_days_are_a_setting_and_none_is_one() -> None:
    assert Settings.from_env({}).samples_days == 14
    assert Settings.from_env({"HEADRACE_SAMPLES_DAYS": "0"}).samples_days == 0
