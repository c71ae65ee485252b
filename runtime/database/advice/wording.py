"""How what was found is said: the numbers, why they matter, and the statement that is the next step."""

from dataclasses import dataclass
from typing import Final

from runtime.database.advice.indexes import Doubt, Proposal
from runtime.database.advice.report import Advice, Topic
from runtime.database.advice.statements import Statement

#: https://www.postgresql.org/docs/15/ddl-partitioning.html#DDL-PARTITIONING-DECLARATIVE-MAINTENANCE
PARTITIONS: Final = " Then CREATE INDEX CONCURRENTLY on each partition, and ALTER INDEX … ATTACH PARTITION each."


@dataclass
class Need:
    """A proposal with the statements that want it; ``gain`` is by how much hypopg lowers the cost of the first."""

    proposal: Proposal
    statements: list[Statement]
    gain: float | None


def creation(proposal: Proposal) -> str:
    """The statement that makes the index; that of a partitioned table is made on each partition by itself."""
    quoted = ", ".join(proposal.table.columns[column].quoted for column in proposal.columns)
    if proposal.table.is_partition:
        return f"CREATE INDEX ON ONLY {proposal.table.name} ({quoted});"
    return f"CREATE INDEX CONCURRENTLY ON {proposal.table.name} ({quoted});"


def index_advice(need: Need) -> Advice:
    """That an index is missing."""
    table, first = need.proposal.table, need.statements[0]
    calls, total_s = sum(item.calls for item in need.statements), sum(item.total_ms for item in need.statements) / 1e3
    more = f" and {len(need.statements) - 1} more" if len(need.statements) > 1 else ""
    kept = max(1, round(need.proposal.selectivity * table.rows))
    gain = (
        "an estimate by the statistics"
        if need.gain is None
        else f"by hypopg the index lowers the cost {need.gain:.0f} times"
    )
    later = PARTITIONS if table.is_partition else ""
    return Advice(
        Topic.INDEX,
        table.name,
        f"{calls} calls took {total_s:.1f} s of `{first.shown()}`{more}",
        f"each reads all {table.rows:.0f} rows to find about {kept} ({gain})",
        f"{creation(need.proposal)}{later}",
    )


def doubt_advice(statement: Statement, doubt: Doubt) -> Advice:
    """That somebody should look at a statement."""
    return Advice(
        Topic.STATEMENT,
        doubt.table.name,
        f"{statement.calls} calls took {statement.total_ms / 1e3:.1f} s of `{statement.shown()}`, "
        f"and each touched {statement.blocks:.0f} blocks",
        f"its plan reads all {doubt.table.rows:.0f} rows; {doubt.reason}: look at this statement",
        _query(statement),
    )


def spill_advice(statement: Statement) -> Advice:
    """That a statement writes to temporary files."""
    mib = statement.spilled * 8 / 1024
    return Advice(
        Topic.SPILL,
        f"statement {statement.query_id}",
        f"{statement.calls} calls wrote {mib:.0f} MiB each to temporary files: `{statement.shown()}`",
        "a sort or a hash table outgrew work_mem, and went to the disk",
        f"look at this statement, or raise work_mem for it: {_query(statement)}",
    )


def _query(statement: Statement) -> str:
    return f"SELECT query FROM pg_stat_statements WHERE queryid = {statement.query_id};"  # noqa: S608  a number
