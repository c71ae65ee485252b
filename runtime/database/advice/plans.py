"""Generic plans: how Postgres would run a statement whatever its parameters are. Nothing is executed.

The text of a statement is somebody else's. It runs as one statement or not at all, for it has no semicolon, which alone
ends one in Postgres' grammar; in a transaction that may only read, and that is rolled back; with a time limit.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from runtime.database.advice.catalog import Table, find_table
from runtime.database.advice.report import Bounds
from runtime.database.advice.statements import MARK, Statement, spellings
from schemas.errors import ServerUnreachable

#: The release that has ``EXPLAIN (GENERIC_PLAN)``.
GENERIC_PLAN: Final = 160_000
#: Parallel plans count rows by worker.
SETTINGS: Final = """
    SET TRANSACTION READ ONLY;
    SET LOCAL standard_conforming_strings = on;
    SET LOCAL plan_cache_mode = force_generic_plan;
    SET LOCAL max_parallel_workers_per_gather = 0;
    SET LOCAL statement_timeout = {statement_ms};
    SET LOCAL lock_timeout = {lock_ms}
"""
NUMBER_OF_PARAMETERS: Final = f"""
    SELECT {MARK} cardinality(parameter_types) FROM pg_prepared_statements WHERE name = '{{name}}'
"""  # noqa: S608


class NotPlanned(Exception):
    """Postgres does not plan the statement without its parameters, or not in time."""


@dataclass(frozen=True)
class Scan:
    """A table that is read from its first row to its last; ``rows`` is how many the planner expects to keep."""

    schema: str
    table: str
    alias: str
    filter: str
    rows: float


@dataclass(frozen=True)
class Plan:
    """The whole tables that a statement reads, and its cost in the planner's units."""

    scans: tuple[Scan, ...]
    cost: float


class Planner:
    """Plans statements over one connection, which must end with it: what was prepared stays until then."""

    def __init__(self, connection: Connection, bounds: Bounds, hypopg: str | None = None) -> None:
        #: The schema of the extension hypopg, quoted; None where there is none.
        self.hypopg = hypopg
        self._connection = connection.execution_options(no_parameters=True)
        self._bounds = bounds
        self._prepared = 0
        self._tables: dict[tuple[str, str], Table | None] = {}
        self._release = int(self._value("SHOW server_version_num"))
        connection.rollback()

    def plan(self, statement: Statement, index: str = "") -> Plan:
        """The statement's generic plan; ``index`` is the CREATE of one that hypopg is to make believe is there.

        Raises:
            NotPlanned: Postgres can't plan it.
        """
        if ";" in statement.text:
            raise NotPlanned
        reason = NotPlanned()
        for spelling in spellings(statement.text):
            try:
                return self._planned(spelling, index)
            except NotPlanned as error:
                reason = error
        raise reason

    def _planned(self, statement: str, index: str) -> Plan:
        try:
            with self._trying():
                if index:
                    self._hypothetical(f"hypopg_create_index('{quoted(index)}')")
                return read_plan(self._explained(statement))
        finally:
            if index and not self._connection.invalidated:
                # It outlives the transaction.
                with self._trying():
                    self._hypothetical("hypopg_reset()")

    def table(self, scan: Scan) -> Table | None:
        """What Postgres knows of the scanned table; None if it has gone, or is locked."""
        key = (scan.schema, scan.table)
        if key not in self._tables:
            try:
                with self._trying():
                    self._tables[key] = find_table(self._connection, *key)
            except NotPlanned:
                self._tables[key] = None
        return self._tables[key]

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """A transaction that may only read, waits for nobody long, and is rolled back.

        Raises:
            NotPlanned: Postgres refused something in it.
            ServerUnreachable: it is gone.
        """
        limits = {"statement_ms": int(1e3 * self._bounds.statement_s), "lock_ms": int(1e3 * self._bounds.lock_s)}
        try:
            self._connection.exec_driver_sql(SETTINGS.format(**limits))
            yield
        except DBAPIError as error:
            if error.connection_invalidated:
                address = self._connection.engine.url.render_as_string(hide_password=True)
                raise ServerUnreachable("Postgres", address, str(error.orig).strip()) from error
            raise NotPlanned from error
        finally:
            self._connection.rollback()

    def _hypothetical(self, call: str) -> None:
        self._connection.exec_driver_sql(f"SELECT {MARK} {self.hypopg}.{call}")

    def _explained(self, statement: str) -> Any:
        if self._release >= GENERIC_PLAN:
            return self._value(f"EXPLAIN (GENERIC_PLAN, VERBOSE, FORMAT JSON) {statement}")
        self._prepared += 1
        name = f"headrace_advice_{self._prepared}"
        self._connection.exec_driver_sql(f"PREPARE {name} AS {statement}")
        nulls = ", ".join(["NULL"] * self._value(NUMBER_OF_PARAMETERS.format(name=name)))
        return self._value(f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE {name}{f' ({nulls})' if nulls else ''}")

    def _value(self, statement: str) -> Any:
        return self._connection.exec_driver_sql(statement).scalar_one()


def quoted(text: str) -> str:
    """The text as it stands between the quotes of a literal."""
    return text.replace("'", "''")


def read_plan(explained: Any) -> Plan:
    """What the JSON of ``EXPLAIN (VERBOSE, FORMAT JSON)`` says."""
    root = explained[0]["Plan"]
    return Plan(tuple(_scan(node) for node in _nodes(root) if _is_filtered_scan(node)), float(root["Total Cost"]))


def _nodes(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    work = [root]
    while work:
        node = work.pop()
        yield node
        work.extend(node.get("Plans", ()))


def _is_filtered_scan(node: Mapping[str, Any]) -> bool:
    system = node.get("Schema") in {"pg_catalog", "information_schema"}
    return node["Node Type"] == "Seq Scan" and "Filter" in node and not system


def _scan(node: Mapping[str, Any]) -> Scan:
    return Scan(node["Schema"], node["Relation Name"], node["Alias"], node["Filter"], float(node["Plan Rows"]))
