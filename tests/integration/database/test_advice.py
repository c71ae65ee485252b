"""Advice from the statistics of a real Postgres, with what is wrong planted."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Final, TypeVar

import pytest
from sqlalchemy import Connection, text

from runtime.database import Database, admissions, jobs, outcomes, queries, queue
from runtime.database.advice import Advice, Bounds, Report, TooBusy, Topic, advise
from runtime.database.advice.examination import Findings
from runtime.database.advice.plans import NotPlanned, Planner
from runtime.database.advice.statements import EXTENSION, Statement, costliest, find_schema
from runtime.database.migrate import upgrade
from runtime.database.queue import BEGINNING
from runtime.database.tables import metadata
from schemas.errors import ServerUnreachable
from schemas.topics import Kind
from tests.integration.database.rows import admission, leased, settlement
from tests.integration.database.test_plans import run_everything
from tests.servers import fresh_database

ROWS: Final = 20_000
CALLS: Final = 12
#: Statistics of a moment, indexes of any size; planning may take its time on a busy machine.
MOMENT: Final = Bounds(unused_s=0, index_bytes=0, vacuum_s=0, time_s=60, statement_s=20)
#: Indexes and statements alone.
LATER: Final = replace(MOMENT, unused_s=1e9)

ORDERS: Final = """
    CREATE TABLE orders (id bigint PRIMARY KEY, buyer text NOT NULL, "At" timestamptz NOT NULL, state text NOT NULL,
                         note text, amount int NOT NULL);
    INSERT INTO orders SELECT n, 'buyer ' || n % 2000, now() - n * interval '1 s', 'state ' || n % 3,
                              repeat('x', 100), n % 10 FROM generate_series(1, {rows}) AS n;
    ANALYZE orders;
"""
BY_BUYER: Final = "SELECT id FROM orders WHERE buyer = :buyer"
Answer = TypeVar("Answer")


@pytest.fixture
def empty(stack_env: Mapping[str, str]) -> Iterator[str]:
    with fresh_database(stack_env["HEADRACE_DATABASE"]) as url:
        yield url


@pytest.fixture
def shop(empty: str) -> Iterator[Database]:
    """A database with statistics of its statements, and a table that has its primary key alone."""
    with closing(Database(empty)) as database:
        run(database, "CREATE EXTENSION pg_stat_statements", ORDERS.format(rows=ROWS))
        yield database


def run(database: Database, *statements: str) -> None:
    with database.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def call(database: Database, statement: str, calls: int = CALLS, **parameters: object) -> None:
    with database.begin() as connection:
        for _ in range(calls):
            connection.execute(text(statement), parameters)


def execute(database: Database, statement: str) -> None:
    """Run what was advised, as ``psql`` would: outside of a transaction."""
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(statement)


def found(report: Report, topic: Topic) -> list[Advice]:
    return [item for item in report.advice if item.topic is topic]


def steps(database: Database, topic: Topic = Topic.INDEX, bounds: Bounds = LATER) -> list[str]:
    return [item.step for item in found(advise(database, bounds), topic)]


def test_an_index_that_is_missing_is_advised_until_it_is_there(shop: Database) -> None:
    call(shop, BY_BUYER, buyer="buyer 7")
    report = advise(shop, LATER)
    (index,) = found(report, Topic.INDEX)

    assert index.step == "CREATE INDEX CONCURRENTLY ON public.orders (buyer);"
    assert index.subject == "public.orders"
    assert f"{CALLS} calls" in index.seen
    assert "all 20000 rows to find about 10 (an estimate" in index.why
    execute(shop, index.step)
    assert advise(shop, LATER).advice == []


def test_equal_columns_come_first_and_then_one_range(shop: Database) -> None:
    call(shop, 'SELECT id FROM orders WHERE "At" > :at AND buyer = :buyer AND amount < 5', at="2020-01-01", buyer="b")
    assert steps(shop) == ['CREATE INDEX CONCURRENTLY ON public.orders (buyer, "At");']


def test_one_index_is_advised_where_it_serves_several_statements(shop: Database) -> None:
    call(shop, BY_BUYER, buyer="b")
    call(shop, 'SELECT id FROM orders WHERE buyer = :buyer AND "At" > :at', at="2020-01-01", buyer="b")
    (index,) = found(advise(shop, LATER), Topic.INDEX)
    assert index.step == 'CREATE INDEX CONCURRENTLY ON public.orders (buyer, "At");'
    assert f"{2 * CALLS} calls" in index.seen
    assert "and 1 more" in index.seen


def test_an_index_of_a_partition_is_advised_for_the_whole_once(shop: Database) -> None:
    run(
        shop,
        "CREATE TABLE sales (LIKE orders) PARTITION BY HASH (id)",
        *(f"CREATE TABLE sales_{n} PARTITION OF sales FOR VALUES WITH (MODULUS 2, REMAINDER {n})" for n in range(2)),
        'INSERT INTO sales SELECT id + n * 99999, buyer, "At", state, note, amount FROM orders, (VALUES (0), (1)) v(n)',
        "ANALYZE sales",
    )
    call(shop, "SELECT id FROM sales WHERE buyer = :buyer", buyer="b")
    (step,) = steps(shop)
    assert step.startswith("CREATE INDEX ON ONLY public.sales (buyer);")
    assert "ATTACH PARTITION" in step


def test_the_gain_is_that_of_hypopg_where_it_is_installed(shop: Database) -> None:
    with shop.begin() as connection:
        available = connection.exec_driver_sql(
            "SELECT FROM pg_available_extensions WHERE name = 'hypopg'"
        ).one_or_none()
    if available is None:
        pytest.skip("hypopg is not installed beside this Postgres")
    run(shop, "CREATE SCHEMA extra", "CREATE EXTENSION hypopg SCHEMA extra")
    call(
        shop,
        "SELECT count(*) FROM orders a JOIN orders b USING (id) WHERE a.buyer = :buyer AND b.note = 'x'",
        buyer="b",
    )
    call(shop, 'SELECT id FROM orders WHERE buyer = :buyer AND "At" > :at', at="2020-01-01", buyer="b")
    (index,) = found(advise(shop, LATER), Topic.INDEX)
    # The index that was assumed for one statement is forgotten before the next is looked at.
    assert index.step == 'CREATE INDEX CONCURRENTLY ON public.orders (buyer, "At");'
    assert "and 1 more" in index.seen
    assert "by hypopg" in index.why


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET amount = 1 WHERE buyer = :buyer",
        "DELETE FROM orders WHERE buyer = :buyer AND note = 'no'",
        "INSERT INTO orders SELECT * FROM orders WHERE buyer = :buyer AND false IS NOT TRUE AND amount > 100",
        "SELECT id FROM orders WHERE buyer = ANY (CAST(:buyers AS text[])) AND state LIKE 'x%'",
        "WITH few AS (SELECT id FROM orders WHERE buyer = :buyer) SELECT count(*) FROM few",
    ],
)
def test_every_kind_of_statement_that_reads_is_looked_at(shop: Database, statement: str) -> None:
    call(shop, statement, buyer="nobody", buyers=["nobody"])
    (step,) = steps(shop)
    assert step.startswith("CREATE INDEX CONCURRENTLY ON public.orders (buyer")


def test_a_statement_that_its_connection_prepared_is_looked_at_too(shop: Database) -> None:
    with shop.begin() as connection:
        connection.exec_driver_sql("PREPARE mine (text) AS SELECT id FROM orders WHERE buyer = $1")
        for _ in range(CALLS):
            connection.exec_driver_sql("EXECUTE mine ('buyer 7')")
    assert steps(shop) == ["CREATE INDEX CONCURRENTLY ON public.orders (buyer);"]


@pytest.mark.parametrize("columns", ["buyer, state", "state, buyer, amount"])
def test_no_index_is_advised_that_another_begins_with(shop: Database, columns: str) -> None:
    without_index_scans(shop)
    call(shop, "SELECT id FROM orders WHERE buyer = :buyer AND state = :state", buyer="b", state="s")
    assert steps(shop) == ["CREATE INDEX CONCURRENTLY ON public.orders (buyer, state);"]
    run(shop, f"CREATE INDEX ON orders ({columns})")
    assert advise(shop, LATER).advice == []


def without_index_scans(database: Database) -> None:
    """Have Postgres read all of a table whatever indexes there are."""
    name = database.engine.url.database
    run(database, *(f"ALTER DATABASE {name} SET enable_{kind}scan = off" for kind in ("index", "bitmap")))
    database.engine.dispose()


def test_an_index_for_some_rows_alone_is_left_to_a_person(shop: Database) -> None:
    """Its statement's constant is not in the statistics, and so nobody can say whether the index serves it."""
    statement = "SELECT count(*) FROM orders WHERE state = 'state 1' AND buyer = :buyer"
    call(shop, statement, buyer="buyer 7")
    run(shop, "CREATE INDEX orders_one ON orders (id) WHERE state = 'state 1'")
    report = advise(shop, LATER)

    assert found(report, Topic.INDEX) == []
    (doubt,) = found(report, Topic.STATEMENT)
    assert "orders_one" in doubt.why
    assert "look at this statement" in doubt.why
    with shop.begin() as connection:
        assert "buyer" in connection.exec_driver_sql(doubt.step).scalar_one()


def test_a_statement_that_an_index_for_some_rows_serves_gives_no_advice(shop: Database) -> None:
    run(shop, "CREATE INDEX orders_one ON orders (buyer) WHERE state = 'state 1'")
    call(shop, "SELECT count(*) FROM orders WHERE state = 'state 1' AND buyer = :buyer", buyer="buyer 7")
    assert advise(shop, LATER).advice == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM orders WHERE buyer = :value OR id = 5",
        "SELECT count(*) FROM orders WHERE lower(buyer) = :value",
        'SELECT count(*) FROM orders WHERE "At" BETWEEN :at AND :at',
    ],
)
def test_what_is_not_clear_is_left_to_a_person(shop: Database, statement: str) -> None:
    call(shop, statement, value="x", at="2020-01-01")
    report = advise(shop, LATER)
    assert [item.topic for item in report.advice] == [Topic.STATEMENT]


@pytest.mark.parametrize(
    "statement",
    ["SELECT count(*) FROM orders WHERE state = :value", "SELECT count(*) FROM orders WHERE amount > 3"],
)
def test_a_condition_that_many_rows_satisfy_wants_no_index(shop: Database, statement: str) -> None:
    call(shop, statement, value="state 1")
    assert advise(shop, LATER).advice == []


def test_a_small_table_and_a_statement_that_ran_seldom_give_no_advice(shop: Database) -> None:
    run(shop, "CREATE TABLE few AS SELECT * FROM orders LIMIT 5000", "ANALYZE few")
    call(shop, "SELECT id FROM few WHERE buyer = :buyer", buyer="b")
    call(shop, BY_BUYER, calls=3, buyer="b")
    assert advise(shop, LATER).advice == []
    bounds = replace(LATER, calls=3, table_rows=1_000, table_bytes=0)
    assert len(steps(shop, bounds=bounds)) == 2


def test_a_table_that_was_never_analyzed_is_left_to_a_person(shop: Database) -> None:
    run(shop, "CREATE TABLE fresh AS SELECT * FROM orders", "ALTER TABLE fresh SET (autovacuum_enabled = off)")
    call(shop, "SELECT id FROM fresh WHERE buyer = :buyer", buyer="b")
    # It knows how many rows there are, and nothing of their values.
    run(shop, "UPDATE pg_class SET reltuples = 20000 WHERE relname = 'fresh'")
    (doubt,) = found(advise(shop, LATER), Topic.STATEMENT)
    assert "never analyzed" in doubt.why


def test_an_index_that_was_never_used_is_named_with_how_long_that_is(shop: Database) -> None:
    run(shop, "CREATE INDEX lonely ON orders (amount)", 'CREATE UNIQUE INDEX lonely_but_unique ON orders (id, "At")')
    (unused,) = found(advise(shop, MOMENT), Topic.UNUSED_INDEX)

    assert unused.step == "DROP INDEX CONCURRENTLY public.lonely;"
    assert "never used in " in unused.seen
    assert "rows were written" in unused.seen
    assert found(advise(shop, replace(MOMENT, unused_s=1e9)), Topic.UNUSED_INDEX) == []
    assert found(advise(shop, replace(MOMENT, index_bytes=1024**3)), Topic.UNUSED_INDEX) == []


def test_a_duplicate_is_named_once_and_never_one_that_is_needed(shop: Database) -> None:
    run(
        shop,
        "CREATE INDEX first_one ON orders (buyer) WHERE amount > 3",
        "CREATE INDEX  second_one  ON orders (buyer)  WHERE  amount > 3",
        "CREATE INDEX other_condition ON orders (buyer) WHERE amount > 4",
        "CREATE INDEX other_order ON orders (buyer DESC) WHERE amount > 3",
        "CREATE UNIQUE INDEX like_the_key ON orders (id)",
    )
    assert steps(shop, Topic.DUPLICATE_INDEX) == [
        "DROP INDEX CONCURRENTLY public.like_the_key;",
        "DROP INDEX CONCURRENTLY public.second_one;",
    ]
    for step in steps(shop, Topic.DUPLICATE_INDEX):
        execute(shop, step)
    assert steps(shop, Topic.DUPLICATE_INDEX) == []


def test_a_table_with_more_dead_rows_than_living_ones_is_named_until_it_is_vacuumed(shop: Database) -> None:
    run(shop, "ALTER TABLE orders SET (autovacuum_enabled = off)", "DELETE FROM orders WHERE id > 100")
    run(shop, "SELECT pg_stat_force_next_flush()")
    shop.engine.dispose()
    dead = until(lambda: found(advise(shop, MOMENT), Topic.DEAD_ROWS))

    assert [item.step for item in dead] == ["VACUUM (ANALYZE) public.orders;"]
    assert "19900 dead rows to 100 living ones, vacuumed never" in dead[0].seen
    execute(shop, dead[0].step)
    assert until(lambda: not found(advise(shop, MOMENT), Topic.DEAD_ROWS))


def until(ask: Callable[[], Answer]) -> Answer:
    """The first answer that is true, within ten seconds; Postgres' statistics come when its processes send them."""
    end_s = time.monotonic() + 10
    while not (answer := ask()) and time.monotonic() < end_s:
        time.sleep(0.05)
    return answer


def test_a_cache_that_misses_too_often_is_named(shop: Database) -> None:
    bounds = replace(LATER, cache_blocks=1, cache_hits=1.01)
    (cache,) = found(advise(shop, bounds), Topic.CACHE)
    assert "in shared_buffers (" in cache.seen
    assert cache.step.startswith("ALTER SYSTEM SET shared_buffers = '")


def test_a_statement_that_spills_to_the_disk_is_named(shop: Database) -> None:
    name = shop.engine.url.database
    run(shop, f"ALTER DATABASE {name} SET work_mem = '64kB'")
    shop.engine.dispose()
    call(shop, "SELECT note || id FROM orders ORDER BY 1 OFFSET 1000000")
    bounds = replace(LATER, spilled_blocks=50)
    (spill,) = found(advise(shop, bounds), Topic.SPILL)
    assert "work_mem" in spill.why


def test_without_the_extension_there_is_a_hint_and_the_rest_of_the_advice(shop: Database) -> None:
    run(
        shop,
        "DROP EXTENSION pg_stat_statements",
        "CREATE INDEX a ON orders (buyer)",
        "CREATE INDEX b ON orders (buyer)",
    )
    report = advise(shop, LATER)
    assert [item.topic for item in report.advice] == [Topic.STATISTICS, Topic.DUPLICATE_INDEX]
    assert report.advice[0].step == "CREATE EXTENSION pg_stat_statements;"
    execute(shop, report.advice[0].step)
    assert found(advise(shop, LATER), Topic.STATISTICS) == []


@pytest.fixture
def guest(shop: Database) -> Iterator[Database]:
    """A role of the database that owns nothing in it."""
    name = f"guest_{secrets.token_hex(6)}"
    run(shop, f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    url = shop.engine.url.set(username=name, password="secret").render_as_string(hide_password=False)
    with closing(Database(url)) as database:
        yield database
    run(shop, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_role_that_may_not_read_the_statistics_gets_the_line_that_allows_it(shop: Database, guest: Database) -> None:
    run(shop, "REVOKE ALL ON pg_stat_statements FROM PUBLIC")
    (hint,) = advise(guest, LATER).advice
    assert hint.step == f"GRANT SELECT ON pg_stat_statements TO {guest.engine.url.username};"
    run(shop, hint.step)
    call(shop, BY_BUYER, buyer="b")
    (hint,) = advise(guest, LATER).advice
    assert "of other roles" in hint.seen


def test_statements_of_other_roles_are_never_planned(shop: Database, guest: Database) -> None:
    """A plan calls the functions in it: another role's would run with the rights of the one who looks."""
    name = guest.engine.url.username
    trap = """
        CREATE FUNCTION trap() RETURNS int IMMUTABLE LANGUAGE plpgsql
        AS $$ BEGIN RAISE SQLSTATE 'XX001' USING MESSAGE = 'called by ' || current_user; END $$
    """
    run(shop, f"GRANT CREATE ON SCHEMA public TO {name}", "GRANT SELECT ON orders TO PUBLIC")
    run(guest, trap.replace("RAISE SQLSTATE 'XX001' USING MESSAGE = 'called by ' || current_user", "RETURN 1"))
    call(guest, "SELECT id FROM orders WHERE buyer = :buyer AND amount = trap()", buyer="b")
    run(guest, trap.replace("CREATE", "CREATE OR REPLACE"))
    report = advise(shop, LATER)
    assert report.skipped == 0
    assert found(report, Topic.INDEX) == []


def test_statements_that_can_not_be_planned_are_counted(shop: Database) -> None:
    call(shop, "SELECT id FROM orders, generate_series(1, 2) WHERE amount = 77")
    call(shop, BY_BUYER, buyer="b")
    run(shop, "CREATE TABLE gone (a int)")
    call(shop, "SELECT a FROM gone WHERE a = :a", a=1)
    run(shop, "DROP TABLE gone")
    report = advise(shop, LATER)
    assert report.skipped == 2
    assert len(found(report, Topic.INDEX)) == 1


def test_a_text_that_holds_two_statements_is_never_sent(shop: Database) -> None:
    two = Statement(1, "SELECT 1; COMMIT; CREATE TABLE planted (a int)", CALLS, 1.0, 1.0, 1.0, 0.0)
    with shop.engine.connect() as connection:
        planner = Planner(connection, LATER)
        with pytest.raises(NotPlanned):
            planner.plan(two)
        assert planner.plan(replace(two, text="SELECT 1")).scans == ()
        assert connection.exec_driver_sql("SELECT to_regclass('planted')").scalar() is None


def test_what_is_left_when_the_time_is_over_is_skipped(shop: Database) -> None:
    call(shop, BY_BUYER, buyer="b")
    call(shop, "SELECT count(*) FROM orders WHERE note = :note", note="n")
    found = Findings(None, LATER)
    with shop.begin() as connection:
        view = find_schema(connection, EXTENSION)
        assert view is not None
        statements = costliest(connection, view, LATER)
    with shop.engine.connect() as connection:
        found.look_at(statements, connection, until_s=time.monotonic())
    assert found.planned == 0
    assert found.skipped == len(statements) >= 2


@pytest.mark.parametrize(("time_s", "lock_s"), [(60.0, 0.5), (0.5, 60.0)])
def test_a_server_that_is_too_busy_for_the_examination_is_told(shop: Database, time_s: float, lock_s: float) -> None:
    with shop.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE pg_stat_statements IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TooBusy, match="did not tell its statistics in time"):
            advise(shop, replace(LATER, time_s=time_s, lock_s=lock_s))


def test_all_statements_together_have_the_time_of_the_examination(shop: Database) -> None:
    slow = ("pg_stat_database", "pg_stat_user_tables", "pg_extension")
    view = "CREATE VIEW {0} AS SELECT v.* FROM pg_catalog.{0} v, pg_sleep(0.7)"
    views = map(view.format, slow)
    run(shop, *views, f"ALTER DATABASE {shop.engine.url.database} SET search_path = public, pg_catalog")
    shop.engine.dispose()
    # None of six takes longer than that by itself.
    with pytest.raises(TooBusy, match="did not tell its statistics in time"):
        advise(shop, replace(LATER, time_s=2.0))


def test_a_table_that_is_locked_is_waited_for_no_longer_than_allowed(shop: Database) -> None:
    call(shop, BY_BUYER, buyer="b")
    with shop.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        report = advise(shop, replace(LATER, lock_s=0.1))
    assert report.skipped >= 1
    assert found(report, Topic.INDEX) == []


def test_a_connection_that_breaks_is_a_server_that_is_away(shop: Database) -> None:
    statement = Statement(1, "SELECT 1", CALLS, 1.0, 1.0, 1.0, 0.0)
    with shop.engine.connect() as connection:
        connection.detach()
        planner = Planner(connection, LATER)
        process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        connection.rollback()
        run(shop, f"SELECT pg_terminate_backend({process}, 10000)")
        with pytest.raises(ServerUnreachable):
            planner.plan(statement, "CREATE INDEX ON orders (buyer)")


def test_it_changes_nothing_and_does_not_examine_itself(shop: Database) -> None:
    call(
        shop,
        'INSERT INTO orders SELECT id + 1000000, buyer, "At", state FROM orders WHERE buyer = :b',
        buyer="b",
        b="b",
    )
    first = state_of(shop)
    reports = [advise(shop, MOMENT) for _ in range(Bounds().calls + 1)]
    assert reports[-1].planned == reports[0].planned
    assert state_of(shop) == first


def state_of(database: Database) -> list[object]:
    with database.begin() as connection:
        return [
            connection.exec_driver_sql(statement).scalar_one()
            for statement in (
                "SELECT count(*) FROM orders",
                "SELECT count(*) FROM pg_class",
                "SELECT count(*) FROM pg_prepared_statements",
                "SELECT count(*) FROM pg_settings WHERE source = 'session'",
            )
        ]


def test_the_schema_of_headrace_under_load_wants_nothing(empty: str) -> None:
    with closing(Database(empty)) as database:
        upgrade(database)
        history(database)
        for turn in range(CALLS):
            with database.begin() as connection:
                work(connection, turn)
        with database.begin() as connection:
            run_everything(connection)
        report = advise(database, replace(LATER, calls=1, statements=200))
        assert report.planned > 50
        assert report.skipped < 6
        assert report.advice == []


def history(database: Database) -> None:
    """As many jobs that have ended as make Postgres think about indexes."""
    with database.begin() as connection:
        admissions.admit(connection, [admission("old")])
        own = {"id": "'old-' || n", "state": "'succeeded'", "finished_at": "now()"}
        columns = [column.name for column in metadata.tables["jobs"].columns]
        listed, values = (
            ", ".join(names) for names in (map('"{}"'.format, columns), [own.get(c, f'"{c}"') for c in columns])
        )
        copy = f"INSERT INTO jobs ({listed}) SELECT {values} FROM jobs, generate_series(1, {ROWS}) n"  # noqa: S608
        connection.exec_driver_sql(copy)
        connection.exec_driver_sql("DELETE FROM jobs WHERE id = 'old'")
    run(database, "ANALYZE")


def work(connection: Connection, turn: int) -> None:
    """Forty jobs from their admission to their result, and what is asked meanwhile."""
    rows = [admission(f"job-{turn}-{number}") for number in range(40)]
    items = leased(connection, *rows)
    queue.queued(connection, Kind.GENERATE, BEGINNING, 100)
    jobs.renew(connection, [item.lease for item in items], 30.0)
    outcomes.settle(connection, [settlement(item) for item in items])
    outcomes.expired(connection, 10)
    queries.find_job(connection, "default", rows[0].id)
    queries.recent_jobs(connection, "default", 20)
    connection.exec_driver_sql("DELETE FROM outbox")
