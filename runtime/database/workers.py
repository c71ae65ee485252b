"""Which worker reads which partition of the work topic."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, text

from runtime.database import jobs
from runtime.database.prepared import prepared
from schemas.errors import HeadraceError
from schemas.events import ControlEvent, Lease
from schemas.limits import WORKER_PARTITIONS

#: The lowest partition that nobody holds. Two workers that start at once may choose the same one; the
#: second then updates no row, and asks again.
CLAIM_PARTITION: Final = text("""
    INSERT INTO workers (partition, worker_id, host, lease_expires_at)
    SELECT free, :worker_id, :host, now() + make_interval(secs => :lease_s)
    FROM generate_series(0, :partitions - 1) AS free
    WHERE NOT EXISTS (SELECT FROM workers WHERE workers.partition = free AND lease_expires_at > now())
    ORDER BY free
    LIMIT 1
    ON CONFLICT (partition) DO UPDATE
    SET worker_id = excluded.worker_id, host = excluded.host, lease_expires_at = excluded.lease_expires_at
    WHERE workers.lease_expires_at <= now()
    RETURNING partition
""")

#: Also after the lease has run out, as long as nobody has claimed the partition: Postgres was away, not the worker.
RENEW_PARTITION: Final = prepared("""
    UPDATE workers SET lease_expires_at = now() + make_interval(secs => :lease_s)
    WHERE partition = :partition AND worker_id = :worker_id
    RETURNING partition
""")

RELEASE_PARTITION: Final = text("DELETE FROM workers WHERE partition = :partition AND worker_id = :worker_id")

CLAIM_TRIES: Final = 2 * WORKER_PARTITIONS


class NoFreePartition(HeadraceError):
    """Every partition of the work topic has its worker."""

    code = "no_free_partition"

    def __init__(self) -> None:
        super().__init__(
            f"All {WORKER_PARTITIONS} partitions of the work topic are taken, so no more worker can join. "
            "Stop one, or wait until the lease of one that died has run out."
        )


def claim_partition(connection: Connection, worker_id: str, host: str, lease_s: float) -> int:
    """Take a free partition for ``lease_s`` seconds.

    Raises:
        NoFreePartition: ``WORKER_PARTITIONS`` workers are at work.
    """
    parameters = {"worker_id": worker_id, "host": host, "lease_s": lease_s, "partitions": WORKER_PARTITIONS}
    for _ in range(CLAIM_TRIES):
        partition = connection.execute(CLAIM_PARTITION, parameters).scalar()
        if partition is not None:
            return int(partition)
    raise NoFreePartition


def renew_partition(connection: Connection, partition: int, worker_id: str, lease_s: float) -> bool:
    """Extend the lease of a partition; False where it had run out, and another worker has claimed it."""
    parameters = {"partition": partition, "worker_id": worker_id, "lease_s": lease_s}
    return connection.execute(RENEW_PARTITION, parameters).scalar() is not None


def renew_worker(
    connection: Connection, partition: int, worker_id: str, leases: Sequence[Lease], lease_s: float
) -> dict[Lease, ControlEvent | None] | None:
    """Extend a worker's partition and jobs; the jobs that are still its own, or None where the partition is not.

    With each job comes what its client wants of it, which the worker may not have heard.
    """
    if not renew_partition(connection, partition, worker_id, lease_s):
        return None
    return jobs.renew(connection, leases, lease_s)


def release_partition(connection: Connection, partition: int, worker_id: str) -> None:
    """Give the partition back; nothing happens where another worker has it."""
    connection.execute(RELEASE_PARTITION, {"partition": partition, "worker_id": worker_id})
