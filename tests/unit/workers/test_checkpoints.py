"""A job's checkpoints between a row and a store that may be away."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from runtime.artifacts import ArtifactStore
from runtime.artifacts.remote import RemoteStore
from runtime.monitoring import Metrics
from schemas.errors import ServerUnreachable
from tests.unit.workers.rows import LEASE, Rows
from workers.checkpoints import CheckpointStore, JobCheckpoints


class Step(msgspec.Struct, frozen=True):
    """A job's small state."""

    step: int


class Machines:
    """Two workers' checkpoints of one job, with a disk each and one store."""

    def __init__(self, directory: Path) -> None:
        self.rows = Rows()
        self.kept = directory / "kept"
        self.mine, self.theirs = (self._machine(directory / name) for name in ("mine", "theirs"))

    def _machine(self, disk: Path) -> CheckpointStore:
        artifacts = ArtifactStore(RemoteStore(self.kept.as_uri()), disk, None, Metrics("test"))
        return CheckpointStore(self.rows, artifacts, 30.0)

    def attempt(self) -> JobCheckpoints:
        return self.mine.of(LEASE)

    def next_attempt(self) -> JobCheckpoints:
        return self.theirs.of(msgspec.structs.replace(LEASE, epoch=2, worker_id="worker-2"))


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


def write(directory: Path) -> None:
    (directory / "weights.txt").write_text("the weights")


def test_a_checkpoint_is_not_given_up_while_the_store_is_away(machines: Machines, tmp_path: Path) -> None:
    async def run() -> None:
        await machines.attempt().save(1_000, Step(1_000), write)
        machines.kept.rename(tmp_path / "away")
        machines.kept.touch()
        after = machines.next_attempt()
        with pytest.raises(ServerUnreachable, match="The artifact store at"):
            await after.find(Step)
        machines.kept.unlink()
        (tmp_path / "away").rename(machines.kept)
        found = await after.find(Step)
        assert found is not None
        assert found.position == 1_000

    asyncio.run(run())


def test_an_attempt_that_lost_its_lease_leaves_its_successor_the_checkpoint(machines: Machines) -> None:
    async def run() -> None:
        await machines.attempt().save(1, Step(1), write)
        machines.rows.held = False
        # The same lease, position and weights: the same artifact.
        await machines.attempt().save(1, Step(1), write)
        assert await machines.next_attempt().find(Step) is not None

    asyncio.run(run())


def test_an_attempt_that_lost_its_lease_takes_its_own_artifact_away(machines: Machines) -> None:
    async def run() -> None:
        attempt = machines.attempt()
        await attempt.save(1, Step(1), write)
        machines.rows.held = False
        await attempt.save(2, Step(2), write)
        found = await machines.next_attempt().find(Step)
        assert found is not None
        assert found.position == 1

    asyncio.run(run())
    assert len(list(machines.kept.iterdir())) == 1


def test_the_same_position_is_not_saved_twice(machines: Machines) -> None:
    written: list[Path] = []

    async def run() -> None:
        attempt = machines.attempt()
        for position in (1, 1, 2):
            await attempt.save(position, Step(position), written.append)

    asyncio.run(run())
    assert len(written) == 2


def test_what_an_ended_job_has_left_is_known_until_the_store_has_let_it_go(machines: Machines, tmp_path: Path) -> None:
    async def run() -> None:
        await machines.attempt().save(1, Step(1), write)
        machines.rows.ended = True
        machines.kept.rename(tmp_path / "away")
        machines.kept.touch()
        await machines.theirs.sweep()
        assert machines.rows.row is not None
        machines.kept.unlink()
        (tmp_path / "away").rename(machines.kept)
        await machines.theirs.sweep()
        assert machines.rows.row is None

    asyncio.run(run())
    assert list(machines.kept.iterdir()) == []
