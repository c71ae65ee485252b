"""Every statement of ``runtime.database`` finds its rows by an index: a test that reads the plans."""

from contextlib import closing

import pytest
from sqlalchemy import Connection, TextClause, event, text

from runtime.database import (
    Database,
    admissions,
    carried_out,
    checkpoints,
    control,
    jobs,
    outbox,
    outcomes,
    queries,
    queue,
    quotas,
    reconciling,
    remembered,
    resubmission,
    workers,
)
from runtime.database.admissions import Source
from runtime.database.checkpoints import Checkpoint
from runtime.database.queue import BEGINNING
from runtime.database.wishes import Wish
from schemas.events import ControlEvent, State
from schemas.requests import Dataset, FineTuneRequest
from schemas.topics import Kind
from tests.integration.database.rows import NOW, TRACE, admission, leased, queued, rejection, settlement, tuned

MODULES = (
    admissions, carried_out, checkpoints, control, jobs, outbox, outcomes, queries, queue, quotas, reconciling,
    remembered, resubmission, workers,
)  # fmt: skip
STATEMENTS = {
    f"{module.__name__}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, TextClause)
}
#: They read all partitions of the work topic, 64 rows at most, or of the request topics; or the outbox, when a
#: dispatcher begins to relay.
SCANS_BY_DESIGN = {
    "runtime.database.workers.CLAIM_PARTITION",
    "runtime.database.jobs.SELECT_UNCONFIRMED",
    "runtime.database.control.SELECT_PARTITIONS",
    "runtime.database.reconciling.SELECT_POSITIONS",
    "runtime.database.outbox.SELECT_OLDEST",
}


@pytest.fixture(scope="module")
def executed(database: Database) -> dict[str, dict[str, object]]:
    """Each statement's text with the parameters that one life of two jobs gave it."""
    seen: dict[str, dict[str, object]] = {}

    def note(
        _connection: Connection,
        clause: object,
        sets: list[dict[str, object]],
        parameters: dict[str, object],
        _options: object,
    ) -> None:
        if isinstance(clause, TextClause):
            seen[str(clause)] = sets[0] if sets else parameters

    event.listen(database.engine, "before_execute", note)
    with database.engine.connect() as connection:
        run_everything(connection)
        connection.rollback()
    event.remove(database.engine, "before_execute", note)
    return seen


def run_everything(connection: Connection) -> None:
    tune = FineTuneRequest(model="example-base", dataset=Dataset(uri="dates/train.jsonl"))
    first, second = leased(connection, admission("a", tune), admission("b"), lease_s=0.0)
    admissions.admit(connection, [rejection("c")])
    queue.queued(connection, Kind.GENERATE, BEGINNING, 10)
    admissions.admit(connection, [admission("strange")])
    connection.exec_driver_sql("UPDATE jobs SET request = '{\"later\": 1}' WHERE id = 'strange'")
    jobs.lease(connection, [(queued(admission("strange")), "worker-1")], 30.0)
    jobs.renew(connection, [first.lease], 30.0)
    checkpoints.save(connection, first.lease, Checkpoint(1, b"{}", "file:///store/abc", "a" * 64, 1))
    checkpoints.find(connection, "default", "a")
    checkpoints.ended(connection, 10)
    checkpoints.delete(connection, [("default", "a")])
    outcomes.expired(connection, 10)
    outcomes.requeue(connection, [second.lease], [1.0])
    outcomes.settle(connection, [settlement(first, tuned())])
    jobs.give_back(connection, [second.lease], State.QUEUED)
    jobs.unconfirmed(connection, 15.0, 10)
    jobs.vacate(connection, ["worker-1"])
    outbox.waiting(connection, outbox.Position(), 10, 1_000)
    outbox.identity(connection)
    outbox.oldest(connection)
    outbox.landed(connection, [outbox.result_id("default", "z")])
    outbox.renumber(connection)
    outbox.published(connection, outbox.waiting(connection, outbox.Position(), 10, 1_000).rows)
    quotas.waiting(connection)
    reconciling.compare(connection, [admission("a")])
    reconciling.save_positions(connection, {("headrace.requests.generate.v1", 0): 1})
    reconciling.positions(connection)
    queries.find_job(connection, "default", "a")
    queries.recent_jobs(connection, "default", 10)
    queries.find_result(connection, "default", "a")
    queries.find_tuned_model(connection, "default", "x")
    workers.claim_partition(connection, "worker", "host", 30.0)
    workers.renew_partition(connection, 0, "worker", 30.0)
    workers.release_partition(connection, 0, "worker")
    want(connection)


def want(connection: Connection) -> None:
    """Wishes that are carried out, noted, remembered, forgotten, and that make a new job."""
    leased(connection, admission("d"))
    admissions.admit(connection, [admission("e"), admission("f")])
    actions = {"d": "cancel", "e": "pause", "f": "cancel", "g": "cancel", "h": "resume"}
    wishes = [Wish(ControlEvent(action=action, job_id=job_id)) for job_id, action in actions.items()]  # type: ignore[arg-type]
    control.apply(connection, wishes, lambda: NOW)
    again = Wish(ControlEvent(action="retry", job_id="f"), TRACE, Source("headrace.control.v1", 0, 1))
    control.apply(connection, [again], lambda: NOW)
    control.sweep(connection, lambda: NOW, 10)
    remembered.forget_noted(connection, [wish.event for wish in wishes])


@pytest.mark.parametrize("name", sorted(set(STATEMENTS) - SCANS_BY_DESIGN))
def test_a_statement_reads_no_table_from_end_to_end(
    name: str, executed: dict[str, dict[str, object]], connection: Connection
) -> None:
    statement = STATEMENTS[name]
    # The planner then scans a table only where no index can serve.
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    plan = plan_of(connection, str(statement), executed[str(statement)])
    assert "Seq Scan on" not in plan, plan


JOBS = 500
#: They find jobs by their ids, and look at the state of each.
BY_ID = (
    "checkpoints.SAVE_CHECKPOINT", "control.CHANGE_JOBS", "control.END_WAITING", "jobs.GIVE_BACK", "jobs.LEASE_JOBS",
    "jobs.RENEW_LEASES", "outcomes.REQUEUE_JOBS", "outcomes.SETTLE_JOBS",
)  # fmt: skip


@pytest.mark.parametrize("name", BY_ID)
def test_jobs_are_found_by_their_ids_where_the_statistics_say_that_few_have_such_a_state(
    name: str, executed: dict[str, dict[str, object]], connection: Connection
) -> None:
    """An index of the jobs in a state is small while there are none; with thousands it would be read for each id."""
    admissions.admit(connection, [admission(f"ended-{number}") for number in range(500)])
    connection.exec_driver_sql("UPDATE jobs SET state = 'succeeded'")
    connection.exec_driver_sql("ANALYZE jobs")
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    statement = str(STATEMENTS[f"runtime.database.{name}"])
    plan = plan_of(connection, statement, executed[statement])
    assert "jobs_pkey" in plan, plan
    assert not any(index in plan for index in ("jobs_leased", "jobs_queued", "jobs_deadlines")), plan


@pytest.mark.parametrize("statistics", ["", "ANALYZE jobs"])
def test_foreign_keys_find_their_job_by_its_key_on_a_table_that_was_small_when_they_were_planned(
    statistics: str, database: Database, database_url: str
) -> None:
    """Their plans are the connection's, and kept from their sixth use on."""
    del database  # its tables are there
    with closing(Database(database_url)) as fresh, fresh.engine.connect() as connection:
        connection.exec_driver_sql("TRUNCATE jobs CASCADE")
        for turn in ("first", "second"):
            few = leased(connection, *(admission(f"{turn}-{number}") for number in range(10)))
            outcomes.settle(connection, [settlement(item) for item in few])
            connection.exec_driver_sql(statistics or "SELECT 1")
        items = leased(connection, *(admission(f"job-{number}") for number in range(JOBS)))
        before = read_rows(connection)
        outcomes.settle(connection, [settlement(item) for item in items])
        assert read_rows(connection) - before < 20 * JOBS
        connection.rollback()


def read_rows(connection: Connection) -> int:
    """How many rows of jobs this transaction has read."""
    reads = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"
    return int(connection.exec_driver_sql(reads).scalar_one())


def test_a_statement_without_an_index_is_caught(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    assert "Seq Scan on jobs" in plan_of(connection, "SELECT * FROM jobs WHERE model = :model", {"model": "x"})


def plan_of(connection: Connection, statement: str, parameters: dict[str, object]) -> str:
    rows = connection.execute(text(f"EXPLAIN {statement}"), parameters)
    return "\n".join(row[0] for row in rows)
