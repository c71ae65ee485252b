"""Checkpoints of a worker's jobs, between a real Postgres, a real Redis and a store on disk."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse

import msgspec
import pytest
from redis import Redis
from sqlalchemy import text

from runtime.artifacts import ArtifactStore, open_artifacts
from runtime.database import checkpoints as rows
from runtime.database import jobs
from runtime.database.thread import DatabaseThread
from runtime.monitoring import Metrics
from schemas.events import Lease, State
from tests.integration.workers.observe import new_id, take_away
from tests.integration.workers.rig import Rig
from workers.checkpoints import SHARE, CheckpointStore, Found


class Step(msgspec.Struct, frozen=True):
    """A job's small state."""

    step: int


@pytest.fixture
def artifacts(redis_url: str, tmp_path: Path) -> Iterator[ArtifactStore]:
    with closing(open_artifacts((tmp_path / "kept").as_uri(), tmp_path / "mine", redis_url, Metrics("test"))) as opened:
        yield opened


@pytest.fixture
def elsewhere(redis_url: str, tmp_path: Path) -> Iterator[ArtifactStore]:
    """Another machine's view of the same store."""
    with closing(
        open_artifacts((tmp_path / "kept").as_uri(), tmp_path / "other", redis_url, Metrics("test"))
    ) as opened:
        yield opened


def leased(rig: Rig) -> Lease:
    (item,) = rig.lease("worker-1", [new_id()])
    return item.lease


def write(value: str) -> "Writer":
    return Writer(value)


class Writer:
    """Writes one file of weights."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, directory: Path) -> None:
        (directory / "weights.txt").write_text(self._value)


def left(rig: Rig, lease: Lease) -> rows.Checkpoint | None:
    with rig.database.begin() as connection:
        return rows.find(connection, lease.tenant, lease.job_id)


def place(checkpoint: rows.Checkpoint) -> Path:
    return Path(urlparse(checkpoint.artifact_uri).path)


def store_of(rig: Rig, artifacts: ArtifactStore) -> Iterator[CheckpointStore]:
    with closing(DatabaseThread(rig.database)) as thread:
        yield CheckpointStore(thread, artifacts, 30.0)


@pytest.fixture
def store(rig: Rig, artifacts: ArtifactStore) -> Iterator[CheckpointStore]:
    yield from store_of(rig, artifacts)


@pytest.fixture
def other_store(rig: Rig, elsewhere: ArtifactStore) -> Iterator[CheckpointStore]:
    yield from store_of(rig, elsewhere)


def test_another_worker_finds_the_last_checkpoint_and_the_ones_before_are_gone(
    rig: Rig, store: CheckpointStore, other_store: CheckpointStore
) -> None:
    lease = leased(rig)

    async def run() -> Found[Step] | None:
        mine = store.of(lease)
        assert await mine.find(Step) is None
        await mine.save(1, Step(1), write("one"))
        first = left(rig, lease)
        await mine.save(2, Step(2), write("two"))
        assert first is not None
        assert not place(first).exists()
        return await other_store.of(lease).find(Step)

    found = asyncio.run(run())
    assert found is not None
    assert (found.position, found.state) == (2, Step(2))
    assert (found.directory / "weights.txt").read_text() == "two"


def test_two_jobs_with_the_same_weights_have_checkpoints_of_their_own(rig: Rig, store: CheckpointStore) -> None:
    first, second = leased(rig), leased(rig)

    async def run() -> None:
        for lease in (first, second):
            await store.of(lease).save(1, Step(1), write("equal"))
        mine = store.of(first)
        await mine.find(Step)
        await mine.save(2, Step(2), write("equal"))
        await mine.save(2, Step(2), write("equal"))  # the same once more deletes nothing
        assert await store.of(first).find(Step) is not None
        assert await store.of(second).find(Step) is not None

    asyncio.run(run())


def test_an_attempt_that_lost_its_lease_leaves_neither_row_nor_artifact(
    rig: Rig, store: CheckpointStore, tmp_path: Path
) -> None:
    lease = leased(rig)
    take_away(rig, lease.job_id)
    asyncio.run(store.of(lease).save(1, Step(1), write("late")))
    assert left(rig, lease) is None
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "gone", "state"])
def test_a_damaged_checkpoint_is_logged_and_ignored_and_then_replaced(
    rig: Rig,
    store: CheckpointStore,
    other_store: CheckpointStore,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    lease = leased(rig)

    async def run() -> None:
        await store.of(lease).save(1, Step(1), write("one"))
        saved = left(rig, lease)
        assert saved is not None
        with closing(Redis.from_url(redis_url)) as client:
            client.flushdb()
        match damage:
            case "changed":
                (place(saved) / "weights.txt").write_text("eno")
            case "gone":
                (place(saved) / "weights.txt").unlink()
            case _:
                with rig.database.begin() as connection:
                    connection.execute(text("UPDATE checkpoints SET state = '[]'"))
        mine = other_store.of(lease)
        assert await mine.find(Step) is None
        await mine.save(1, Step(1), write("two"))
        assert await other_store.of(lease).find(Step) is not None

    asyncio.run(run())
    assert "its checkpoint can't be used, it starts over" in caplog.text


def test_a_store_that_is_away_costs_the_job_no_more_than_the_checkpoint(
    rig: Rig, redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    lease = leased(rig)
    with (
        closing(open_artifacts((tmp_path / "file").as_uri(), tmp_path / "mine", redis_url, Metrics("test"))) as full,
        closing(DatabaseThread(rig.database)) as thread,
    ):
        asyncio.run(CheckpointStore(thread, full, 30.0).of(lease).save(1, Step(1), write("one")))
    assert left(rig, lease) is None
    assert "no checkpoint at 1" in caplog.text


def test_large_checkpoints_come_less_often(rig: Rig, artifacts: ArtifactStore) -> None:
    lease = leased(rig)

    async def run() -> None:
        with closing(DatabaseThread(rig.database)) as thread:
            mine = CheckpointStore(thread, artifacts, 1e-6).of(lease)
            assert mine.every_s == 1e-6
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            await mine.save(1, Step(1), write("one"))
            took_s = loop.time() - begun_s
            assert 0.5 * SHARE * took_s < mine.every_s <= SHARE * took_s

    asyncio.run(run())


def test_what_ended_jobs_have_left_is_swept_away(rig: Rig, store: CheckpointStore) -> None:
    ended, paused = leased(rig), leased(rig)

    async def run() -> None:
        for lease in (ended, paused):
            await store.of(lease).save(1, Step(1), write("one"))
        saved = left(rig, ended)
        with rig.database.begin() as connection:
            connection.execute(text("UPDATE jobs SET finished_at = now() WHERE id = :id"), {"id": ended.job_id})
            jobs.give_back(connection, [paused], State.PAUSED)
        await store.sweep()
        assert saved is not None
        assert not place(saved).exists()
        assert left(rig, ended) is None
        assert await store.of(paused).find(Step) is not None

    asyncio.run(run())
