"""Where long jobs leave how far they are, and find how far the attempts before them came."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from runtime.artifacts import Artifact, ArtifactGone, ArtifactStore, ArtifactUnreachable
from runtime.database import checkpoints as rows
from runtime.database.checkpoints import Checkpoint
from runtime.database.thread import DatabaseThread
from schemas.errors import ServerUnreachable
from schemas.events import Lease

log = logging.getLogger(__name__)

#: Checkpoints take at most about this part of a job's time, however large they are: one in so many.
SHARE: Final = 10
#: How long Postgres may take to store a row before the job goes on without.
STORE_S: Final = 10.0
#: Whose the checkpoint is. It makes the artifact the job's own: one with the same weights is deleted apart from it.
OWNER_NAME: Final = "checkpoint.json"
#: How often checkpoints are looked for whose jobs were ended by others, and how many at such a time.
SWEEP_S: Final = 60.0
SWEEP_ROWS: Final = 100

State = TypeVar("State", bound=msgspec.Struct)


@dataclass(frozen=True)
class Found(Generic[State]):
    """A checkpoint that was left before; ``directory`` holds its files, each compared with its digest. Read-only."""

    position: int
    state: State
    directory: Path


class Checkpoints(Protocol):
    """The checkpoints of one attempt's job."""

    @property
    def every_s(self) -> float:
        """How long to work between two checkpoints, in seconds."""
        ...

    async def find(self, state: type[State]) -> Found[State] | None:
        """The last one, or None where there is none, or it is known to be lost: then the job starts over.

        Raises:
            ServerUnreachable: it can't be had now (retryable).
        """
        ...

    async def save(self, position: int, state: msgspec.Struct, write: Callable[[Path], None]) -> None:
        """Replace the last one. ``write`` fills a directory, in a thread. What fails is logged, and the job goes on."""
        ...

    def ended(self) -> None:
        """The job has ended and needs none any more."""
        ...


class Owner(msgspec.Struct, frozen=True):
    """The attempt that wrote a checkpoint's files."""

    tenant: str
    job_id: str
    epoch: int
    position: int


class CheckpointStore:
    """The checkpoints of all jobs of a worker."""

    def __init__(self, database: DatabaseThread, artifacts: ArtifactStore, every_s: float) -> None:
        self.database = database
        self.artifacts = artifacts
        self.every_s = every_s
        self._ended = asyncio.Event()

    def of(self, lease: Lease) -> "JobCheckpoints":
        """Those of the job that runs under this lease."""
        return JobCheckpoints(self, lease)

    async def run(self) -> None:
        """Delete what ended jobs have left, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._ended.wait()
            self._ended.clear()
            await self.sweep()

    def sweep_soon(self) -> None:
        """A job has ended that had a checkpoint."""
        self._ended.set()

    async def sweep(self) -> None:
        """Delete the checkpoints of ended jobs.

        1. The artifacts. A crash leaves rows, and the next sweep deletes what is left of theirs.
        2. The rows, but for those whose artifacts the store did not let go: nothing else knows of these.
        """
        ended = await self.database.insist(rows.ended, SWEEP_ROWS)
        gone = [
            (item.tenant, item.job_id)
            for item in ended
            if await self.discard(item.checkpoint.artifact_sha256, item.checkpoint.artifact_uri)
        ]
        if gone:
            await self.database.insist(rows.delete, gone)

    async def discard(self, artifact_sha256: str, uri: str) -> bool:
        """Delete an artifact as far as its places can be reached; False where the store may still have it."""
        return await asyncio.to_thread(self.artifacts.discard, artifact_sha256, uri)


class JobCheckpoints:
    """See ``Checkpoints``. For the event loop."""

    def __init__(self, store: CheckpointStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._last: Checkpoint | None = None
        #: Where this attempt has left its last one.
        self._saved: int | None = None
        self._took_s = 0.0

    @property
    def every_s(self) -> float:
        """The setting, or longer where saving takes long."""
        return max(self._store.every_s, SHARE * self._took_s)

    async def find(self, state: type[State]) -> Found[State] | None:
        """See ``Checkpoints``."""
        lease = self._lease
        last = await self._store.database.insist(rows.find, lease.tenant, lease.job_id)
        if last is None:
            return None
        self._last = last
        try:
            decoded = msgspec.json.decode(last.state, type=state)
            directory = await asyncio.to_thread(self._store.artifacts.fetch, last.artifact_sha256, last.artifact_uri)
        except (msgspec.DecodeError, ArtifactGone) as error:
            log.warning("job %s: its checkpoint can't be used, it starts over: %s", lease.job_id, error)
            return None
        except ArtifactUnreachable as error:
            # Whoever started over now would replace hours of work by the next checkpoint.
            raise error.server() from error
        return Found(last.position, decoded, directory)

    async def save(self, position: int, state: msgspec.Struct, write: Callable[[Path], None]) -> None:
        """See ``Checkpoints``.

        1. The files are published. A crash leaves an artifact that no row names.
        2. The row names them, if the lease is still held.
        3. The artifact before is deleted. A crash leaves it.

        An attempt whose lease was lost deletes what it has published, but not what the row names: it may have written
        that while it had the lease, and its successor needs it.
        """
        if position == self._saved:
            return
        begun_s = asyncio.get_running_loop().time()
        try:
            artifact = await asyncio.to_thread(self._publish, position, write)
            row = Checkpoint(position, msgspec.json.encode(state), artifact.uri, artifact.sha256, artifact.size_bytes)
            async with asyncio.timeout(STORE_S):
                database, lease = self._store.database, self._lease
                held = await database.insist(rows.save, lease, row)
                named = row if held else await database.insist(rows.find, lease.tenant, lease.job_id)
        except (ServerUnreachable, OSError) as error:  # of which TimeoutError is one
            reason = str(error) or "Postgres does not answer"
            log.warning("job %s: no checkpoint at %d: %s", self._lease.job_id, position, reason)
            return
        finally:
            self._took_s = asyncio.get_running_loop().time() - begun_s
        if not held:
            if named is None or named.artifact_sha256 != row.artifact_sha256:
                await self._store.discard(row.artifact_sha256, row.artifact_uri)
            return
        self._saved = position
        old, self._last = self._last, row
        if old and old.artifact_sha256 != row.artifact_sha256:
            await self._store.discard(old.artifact_sha256, old.artifact_uri)

    def ended(self) -> None:
        """See ``Checkpoints``."""
        if self._last:
            self._store.sweep_soon()

    def _publish(self, position: int, write: Callable[[Path], None]) -> Artifact:
        with self._store.artifacts.scratch() as directory:
            write(directory)
            owner = Owner(self._lease.tenant, self._lease.job_id, self._lease.epoch, position)
            (directory / OWNER_NAME).write_bytes(msgspec.json.encode(owner))
            return self._store.artifacts.publish(directory)
