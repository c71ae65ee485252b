"""How far long jobs are: one row a job, written by whoever holds its lease, found by every attempt after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from schemas.events import Lease

#: The lock makes a reaper that is just ending this lease come before or after, not in between.
SAVE_CHECKPOINT: Final = text("""
    INSERT INTO checkpoints (tenant, job_id, attempt, position, state, artifact_uri, artifact_sha256, size_bytes,
                             created_at)
    SELECT tenant, id, attempt, :position, CAST(:state AS json), :uri, :sha256, :size_bytes, now()
    FROM jobs
    WHERE tenant = :tenant AND id = :id AND epoch = :epoch
      AND CASE WHEN jobs.state IN ('scheduled', 'running') THEN true END
    FOR NO KEY UPDATE
    ON CONFLICT (tenant, job_id) DO UPDATE
    SET attempt = excluded.attempt, position = excluded.position, state = excluded.state,
        artifact_uri = excluded.artifact_uri, artifact_sha256 = excluded.artifact_sha256,
        size_bytes = excluded.size_bytes, created_at = excluded.created_at
    RETURNING position
""")

FIND_CHECKPOINT: Final = text("""
    SELECT position, state::text AS state, artifact_uri, artifact_sha256, size_bytes
    FROM checkpoints WHERE tenant = :tenant AND job_id = :id
""")

#: The newest first: those that can't be deleted, of a store that is gone, leave room for the others.
ENDED_CHECKPOINTS: Final = text("""
    SELECT checkpoints.tenant, job_id, position, checkpoints.state::text AS state, artifact_uri, artifact_sha256,
           size_bytes
    FROM checkpoints JOIN jobs ON jobs.tenant = checkpoints.tenant AND jobs.id = checkpoints.job_id
    WHERE jobs.finished_at IS NOT NULL
    ORDER BY checkpoints.created_at DESC
    LIMIT :most
""")

#: A job that has ended gets no new one, so this never deletes what somebody needs.
DELETE_CHECKPOINTS: Final = text("""
    DELETE FROM checkpoints
    USING unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS item(tenant, id), jobs
    WHERE checkpoints.tenant = item.tenant AND checkpoints.job_id = item.id
      AND jobs.tenant = item.tenant AND jobs.id = item.id AND jobs.finished_at IS NOT NULL
""")


@dataclass(frozen=True)
class Checkpoint:
    """How far a job is: ``position`` in steps or batches, its small state as JSON, its large one as an artifact."""

    position: int
    state: bytes
    artifact_uri: str
    artifact_sha256: str
    size_bytes: int


@dataclass(frozen=True)
class EndedCheckpoint:
    """The checkpoint of a job that needs it no more."""

    tenant: str
    job_id: str
    checkpoint: Checkpoint


def save(connection: Connection, lease: Lease, checkpoint: Checkpoint) -> bool:
    """Replace the job's checkpoint; False where the lease was lost, and nothing was written. May be repeated."""
    parameters = {
        "tenant": lease.tenant,
        "id": lease.job_id,
        "epoch": lease.epoch,
        "position": checkpoint.position,
        "state": checkpoint.state.decode(),
        "uri": checkpoint.artifact_uri,
        "sha256": checkpoint.artifact_sha256,
        "size_bytes": checkpoint.size_bytes,
    }
    return connection.execute(SAVE_CHECKPOINT, parameters).scalar() is not None


def find(connection: Connection, tenant: str, job_id: str) -> Checkpoint | None:
    """How far the job's attempts have come, if one has left a checkpoint."""
    row = connection.execute(FIND_CHECKPOINT, {"tenant": tenant, "id": job_id}).one_or_none()
    if row is None:
        return None
    return Checkpoint(row.position, row.state.encode(), row.artifact_uri, row.artifact_sha256, row.size_bytes)


def ended(connection: Connection, most: int) -> list[EndedCheckpoint]:
    """Checkpoints of jobs that have ended, the newest first."""
    return [
        EndedCheckpoint(
            row.tenant,
            row.job_id,
            Checkpoint(row.position, row.state.encode(), row.artifact_uri, row.artifact_sha256, row.size_bytes),
        )
        for row in connection.execute(ENDED_CHECKPOINTS, {"most": most})
    ]


def delete(connection: Connection, jobs: Sequence[tuple[str, str]]) -> None:
    """Drop the checkpoints of ended jobs, given as (tenant, id)."""
    if jobs:
        connection.execute(DELETE_CHECKPOINTS, {"tenants": [job[0] for job in jobs], "ids": [job[1] for job in jobs]})
