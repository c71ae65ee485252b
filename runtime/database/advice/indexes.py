"""Which index would spare a statement the reading of a whole table, by rules that anybody can check.

The columns that are compared by equality come first, then one that is compared by order: a B-tree finds the rows of
such a condition in one place (https://www.postgresql.org/docs/15/indexes-multicolumn.html).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.database.advice.catalog import Table
from runtime.database.advice.filters import Comparison, Term, parse_filter
from runtime.database.advice.plans import Scan
from runtime.database.advice.report import Bounds
from runtime.database.advice.statements import Statement

#: More columns make an index larger, and find hardly less.
MOST_COLUMNS: Final = 3
#: An index touches about so many blocks for a row that it finds: no scan that touches fewer is worth one.
BLOCKS_PER_ROW: Final = 5


@dataclass(frozen=True)
class Proposal:
    """An index that would serve a scan, which keeps about ``selectivity`` of the table's rows."""

    table: Table
    columns: tuple[str, ...]
    selectivity: float

    def begins(self, other: "Proposal") -> bool:
        """Whether the other index would begin with this one."""
        return self.table.name == other.table.name and other.columns[: len(self.columns)] == self.columns


@dataclass(frozen=True)
class Doubt:
    """A scan of a whole table about which only a person can say what helps, and why."""

    table: Table
    reason: str


def judge(scan: Scan, table: Table, statement: Statement, bounds: Bounds) -> Proposal | Doubt | None:
    """What to say of a table that the statement's generic plan reads whole; None where there is nothing."""
    if table.rows < bounds.table_rows or table.size_bytes < bounds.table_bytes:
        return None
    # The generic plan knows no parameter, and so no partial index. What was executed may have had one.
    if statement.blocks < max(bounds.read_share * table.pages, BLOCKS_PER_ROW * statement.rows):
        return None
    condition = parse_filter(scan.filter, scan.alias)
    terms = [term for term in condition.terms if table.can_serve(term)]
    proposal = propose(table, terms, bounds)
    if proposal is None and scan.rows > bounds.selective * table.rows:
        return None
    if proposal is not None and is_served(table, proposal.columns, terms, bounds):
        return None
    if partial := next((index for index in table.indexes if index.partial & condition.columns), None):
        return Doubt(table, f"the index {partial.name} of some of its rows may be meant for it, or not")
    return proposal or Doubt(table, _unclear(table, terms))


def propose(table: Table, terms: Sequence[Term], bounds: Bounds) -> Proposal | None:
    """The index of the most selective equalities and one range; None unless the equalities are known to select."""
    known: dict[str, tuple[int, float]] = {}
    for term in terms:
        part = table.selectivity(term)
        # Elements of an array come in no order of the index: behind the others.
        if part is not None and part < known.get(term.column, (0, math.inf))[1]:
            known[term.column] = (int(term.comparison is Comparison.ANY), part)
    best = sorted(known, key=lambda column: known[column])[:MOST_COLUMNS]
    selectivity = math.prod(known[column][1] for column in best)
    if not best or selectivity > bounds.selective:
        return None
    ranged = _ranged(terms, best)
    return Proposal(table, (*best, *ranged[:1]), selectivity)


def is_served(table: Table, columns: Sequence[str], terms: Sequence[Term], bounds: Bounds) -> bool:
    """Whether an index of all rows begins with the columns, or with enough of them to select."""
    equal = {term.column: term for term in terms if term.comparison is not Comparison.RANGE and term.column in columns}
    for index in table.indexes:
        if index.partial:
            continue
        first, then = index.columns[: len(equal)], index.columns[len(equal) : len(columns)]
        # Among equalities the order does not matter.
        if set(first) == set(equal) and list(then) == list(columns[len(equal) :]):
            return True
        parts = [table.selectivity(equal[column]) for column in _leading(index.columns, equal)]
        if parts and math.prod(1.0 if part is None else part for part in parts) <= bounds.selective:
            return True
    return False


def _leading(columns: Sequence[str | None], equal: dict[str, Term]) -> list[str]:
    leading: list[str] = []
    for column in columns:
        if column is None or column not in equal:
            break
        leading.append(column)
    return leading


def _ranged(terms: Sequence[Term], taken: Sequence[str]) -> list[str]:
    columns = (term.column for term in terms if term.comparison is Comparison.RANGE)
    return [column for column in dict.fromkeys(columns) if column not in taken]


def _unclear(table: Table, terms: Sequence[Term]) -> str:
    if any(table.selectivity(term) is None and term.comparison is not Comparison.RANGE for term in terms):
        return f"{table.name} was never analyzed"
    if terms:
        return "how many rows its condition selects depends on the parameters"
    return "its condition is none that a plain index serves"
