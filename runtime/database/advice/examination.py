"""The examination as a whole: statements, their plans, the indexes that they lack, and the upkeep of what is there."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sqlalchemy import Connection, event, text
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError, OperationalError

from runtime.database.advice.indexes import Doubt, Proposal, judge
from runtime.database.advice.obstacles import (
    NO_COLUMN,
    NO_RIGHT,
    NOT_LOADED,
    Unreadable,
    missing,
    not_readable,
    of_others,
    role_of,
)
from runtime.database.advice.plans import NotPlanned, Plan, Planner
from runtime.database.advice.report import Advice, Bounds, Report
from runtime.database.advice.statements import (
    EXTENSION,
    Statement,
    costliest,
    find_schema,
    share_of_others,
)
from runtime.database.advice.upkeep import inspect
from runtime.database.advice.wording import Need, creation, doubt_advice, index_advice, spill_advice
from runtime.database.engine import Database
from schemas.errors import HeadraceError, ServerUnreachable

BOUNDS: Final = Bounds()
#: An index that takes less off a statement's cost is not worth its writes.
LEAST_GAIN: Final = 2.0
HYPOPG: Final = "hypopg"
#: What Postgres says to a statement that took too long (``query_canceled``).
TIMED_OUT: Final = "57014"
#: And to one that waited too long for a lock (``lock_not_available``).
LOCKED: Final = "55P03"


class TooBusy(HeadraceError):
    """Postgres did not tell its statistics within the time of an examination."""

    code = "too_busy"
    retryable = True


def advise(database: Database, bounds: Bounds = BOUNDS) -> Report:
    """What would make Postgres faster, the most costly first; it reads only, within ``bounds.time_s`` or little more.

    Raises:
        ServerUnreachable: Postgres is away.
        TooBusy: it does not tell its statistics in time (retryable).
    """
    until_s = time.monotonic() + bounds.time_s
    with _reading(database, bounds, until_s) as connection:
        upkeep = inspect(connection, bounds)
        role, obstacle = role_of(connection), missing(connection)
    if obstacle is not None:
        return Report([obstacle, *upkeep])
    try:
        with _reading(database, bounds, until_s) as connection:
            view = find_schema(connection, EXTENSION) or ""
            statements = costliest(connection, view, bounds)
            others = of_others(role, *share_of_others(connection, view, bounds))
            hypopg = find_schema(connection, HYPOPG)
    except Unreadable as error:
        return Report([not_readable(error.code, role), *upkeep])
    found = Findings(hypopg, bounds)
    with _own_connection(database) as connection:
        found.look_at(statements, connection, until_s)
    return Report([*others, *found.advice(), *upkeep], found.planned, found.skipped)


@contextmanager
def _reading(database: Database, bounds: Bounds, until_s: float) -> Iterator[Connection]:
    """A transaction that only reads, and not for long."""
    with database.begin() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        event.listen(connection, "before_cursor_execute", partial(_limit, until_s))
        # The size of an index that somebody makes or drops can't be had meanwhile.
        connection.execute(text(f"SET LOCAL lock_timeout = {int(1e3 * bounds.lock_s)}"))
        try:
            yield connection
        except DBAPIError as error:
            match getattr(error.orig, "pgcode", None):
                case str(code) if code in {TIMED_OUT, LOCKED}:
                    said = str(error.orig).strip()
                    raise TooBusy(f"{database.address} did not tell its statistics in time: {said}") from error
                case str(code) if code in {NOT_LOADED, NO_RIGHT, NO_COLUMN}:
                    raise Unreadable(code) from error
                case _:
                    raise


def _limit(until_s: float, _connection: Connection, cursor: DBAPICursor, *_statement: object) -> None:
    """Leave a statement what is left of the time: a dozen that each took all of it would be no examination."""
    # Nothing left is a millisecond, for zero is no limit.
    cursor.execute(f"SET LOCAL statement_timeout = {max(1, int(1e3 * (until_s - time.monotonic())))}")


@contextmanager
def _own_connection(database: Database) -> Iterator[Connection]:
    """A connection that is closed afterwards, and what was prepared over it with it."""
    try:
        connection = database.engine.connect()
    except OperationalError as error:
        raise ServerUnreachable("Postgres", database.address, str(error.orig).strip()) from error
    with connection:
        connection.detach()
        yield connection


@dataclass
class Findings:
    """What was found while the statements were looked at, one after the other."""

    hypopg: str | None
    bounds: Bounds
    planned: int = 0
    skipped: int = 0
    needs: dict[tuple[str, tuple[str, ...]], Need] = field(default_factory=dict)
    doubts: list[tuple[Statement, Doubt]] = field(default_factory=list)
    spilling: list[Statement] = field(default_factory=list)

    def look_at(self, statements: Sequence[Statement], connection: Connection, until_s: float) -> None:
        """Plan each, and judge what it reads whole; those that are left when the time is over are skipped."""
        planner = Planner(connection, self.bounds, self.hypopg)
        for statement in statements:
            if statement.spilled >= self.bounds.spilled_blocks:
                self.spilling.append(statement)
            try:
                if time.monotonic() >= until_s:
                    raise NotPlanned
                plan = planner.plan(statement)
                self.planned += 1
            except NotPlanned:
                self.skipped += 1
                continue
            for scan in plan.scans:
                table = planner.table(scan)
                verdict = None if table is None else judge(scan, table, statement, self.bounds)
                match verdict:
                    case Proposal():
                        self.note(verdict, statement, plan, planner)
                    case Doubt():
                        self.doubts.append((statement, verdict))

    def note(self, proposal: Proposal, statement: Statement, plan: Plan, planner: Planner) -> None:
        """Remember an index that is wanted, unless hypopg says that it would not help."""
        key = (proposal.table.name, proposal.columns)
        if (known := self.needs.get(key)) is not None:
            known.statements.append(statement)
            return
        gain = self.gain(proposal, statement, plan, planner)
        if gain is None or gain >= LEAST_GAIN:
            self.needs[key] = Need(proposal, [statement], gain)

    def gain(self, proposal: Proposal, statement: Statement, plan: Plan, planner: Planner) -> float | None:
        """By which factor the index lowers the plan's cost, where there is hypopg to tell."""
        if planner.hypopg is None or proposal.table.is_partition:
            return None
        try:
            assumed = planner.plan(statement, creation(proposal).replace(" CONCURRENTLY", "").rstrip(";"))
        except NotPlanned:
            return None
        return plan.cost / max(assumed.cost, 0.01)

    def advice(self) -> Iterator[Advice]:
        """The indexes first, then what a person has to look at."""
        for need in merged(list(self.needs.values())):
            yield index_advice(need)
        seen: set[tuple[int, str]] = set()
        for statement, doubt in self.doubts:
            if (key := (statement.query_id, doubt.table.name)) not in seen:
                seen.add(key)
                yield doubt_advice(statement, doubt)
        for statement in self.spilling:
            yield spill_advice(statement)


def merged(needs: Sequence[Need]) -> list[Need]:
    """Without the indexes that another one begins with: it serves their statements too."""
    kept: list[Need] = []
    # The longest first.
    for need in sorted(needs, key=lambda need: -len(need.proposal.columns)):
        longer = next((other for other in kept if need.proposal.begins(other.proposal)), None)
        if longer is None:
            kept.append(need)
        else:
            longer.statements.extend(need.statements)
    return sorted(kept, key=lambda need: -sum(statement.total_ms for statement in need.statements))
