"""Who reads which partition, on a real Postgres."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text

from runtime.database import Database, workers
from schemas.limits import WORKER_PARTITIONS


def claim(connection: Connection, worker_id: str, lease_s: float = 60.0) -> int:
    return workers.claim_partition(connection, worker_id, "host", lease_s)


def test_each_worker_gets_a_partition_of_its_own(connection: Connection) -> None:
    assert [claim(connection, f"worker-{number}") for number in range(3)] == [0, 1, 2]


def test_a_partition_is_free_again_once_its_lease_ran_out(connection: Connection) -> None:
    claim(connection, "dead")
    connection.execute(text("UPDATE workers SET lease_expires_at = now() - interval '1 s'"))
    assert claim(connection, "next") == 0
    assert not workers.renew_partition(connection, 0, "dead", 60.0)
    assert workers.renew_partition(connection, 0, "next", 60.0)


def test_a_lease_that_ran_out_is_renewed_as_long_as_nobody_else_claims_the_partition(connection: Connection) -> None:
    claim(connection, "worker", lease_s=0.0)
    assert workers.renew_partition(connection, 0, "worker", 60.0)
    assert claim(connection, "next") == 1


def test_a_worker_that_lost_its_partition_does_not_release_it(connection: Connection) -> None:
    claim(connection, "owner")
    workers.release_partition(connection, 0, "stranger")
    assert workers.renew_partition(connection, 0, "owner", 60.0)
    workers.release_partition(connection, 0, "owner")
    assert claim(connection, "next") == 0


def test_one_worker_too_many_is_told_so(connection: Connection) -> None:
    for number in range(WORKER_PARTITIONS):
        claim(connection, f"worker-{number}")
    with pytest.raises(workers.NoFreePartition, match="64"):
        claim(connection, "late")


def test_workers_that_start_at_once_never_share_a_partition(database: Database) -> None:
    def start(number: int) -> int:
        with database.begin() as connection:
            return claim(connection, f"worker-{number}")

    with ThreadPoolExecutor(16) as pool:
        partitions = list(pool.map(start, range(32)))
    with database.begin() as connection:
        connection.execute(text("DELETE FROM workers"))
    assert sorted(partitions) == list(range(32))
