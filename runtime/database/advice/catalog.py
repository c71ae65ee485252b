"""What Postgres knows of its tables, their columns and their indexes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from runtime.database.advice.filters import Comparison, Term, names_in
from runtime.database.advice.statements import MARK

#: A column is compared as text where it is a varchar, and an index of it serves all the same.
SAME_AS_TEXT: Final = ("character varying", "text")
#: What the planner takes for the length of an array that it does not know.
ELEMENTS: Final = 10

#: ``name`` is that of the partitioned table where the table is a partition.
FIND_TABLE: Final = text(f"""
    SELECT {MARK} c.oid AS table_id, c.relispartition AS is_partition,
           (SELECT quote_ident(n.nspname) || '.' || quote_ident(top.relname)
            FROM pg_class top JOIN pg_namespace n ON n.oid = top.relnamespace
            WHERE top.oid = coalesce(pg_partition_root(c.oid), c.oid)) AS name,
           greatest(c.reltuples, 0)::double precision AS rows, pg_relation_size(c.oid) AS size_bytes,
           pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages
    FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
    WHERE s.nspname = :schema AND c.relname = :table
""")  # noqa: S608  a constant

FIND_COLUMNS: Final = text(f"""
    SELECT {MARK} a.attname AS name, quote_ident(a.attname) AS quoted, format_type(a.atttypid, NULL) AS type,
           s.n_distinct, s.null_frac
    FROM pg_attribute a
    LEFT JOIN pg_stats s ON s.schemaname = :schema AND s.tablename = :table AND s.attname = a.attname
                        AND NOT s.inherited
    WHERE a.attrelid = :table_id AND a.attnum > 0 AND NOT a.attisdropped
      -- Those alone that a B-tree can order.
      AND (EXISTS (SELECT FROM pg_opclass o JOIN pg_am ON pg_am.oid = o.opcmethod
                   WHERE amname = 'btree' AND opcdefault AND opcintype = a.atttypid)
           OR format_type(a.atttypid, NULL) = 'character varying')
""")  # noqa: S608

#: ``columns`` are the key's; null where it has an expression.
FIND_INDEXES: Final = text(f"""
    SELECT {MARK} quote_ident(k.relname) AS name,
           coalesce(array(SELECT a.attname::text FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS key(attnum, place)
                          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = key.attnum
                          WHERE place <= i.indnkeyatts ORDER BY place), '{{}}') AS columns,
           pg_get_expr(i.indpred, i.indrelid) AS predicate
    FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid JOIN pg_am ON pg_am.oid = k.relam
    WHERE i.indrelid = :table_id AND i.indisvalid AND amname = 'btree'
""")  # noqa: S608


@dataclass(frozen=True)
class Column:
    """A column with the planner's statistics of it: None where the table was never analyzed."""

    name: str
    quoted: str
    type: str
    n_distinct: float | None
    null_frac: float | None


@dataclass(frozen=True)
class Index:
    """A valid B-tree; a column is None where the key has an expression. A partial one is about some columns' values."""

    name: str
    columns: Sequence[str | None]
    partial: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    """A table with what there is to judge its scans by; ``name`` is quoted, a partition's is that of the whole."""

    name: str
    is_partition: bool
    rows: float
    size_bytes: int
    pages: int
    columns: Mapping[str, Column]
    indexes: Sequence[Index]

    def can_serve(self, term: Term) -> bool:
        """Whether a B-tree of the column would find the rows of the comparison."""
        column = self.columns.get(term.column)
        return column is not None and (not term.cast or (term.cast == "text" and column.type in SAME_AS_TEXT))

    def selectivity(self, term: Term) -> float | None:
        """The part of the rows that satisfies an equality, by the statistics; None where they do not tell."""
        column = self.columns[term.column]
        if column.n_distinct is None or column.null_frac is None or term.comparison is Comparison.RANGE:
            return None
        if term.comparison is Comparison.IS_NULL:
            return column.null_frac
        distinct = column.n_distinct if column.n_distinct > 0 else -column.n_distinct * self.rows
        one = (1 - column.null_frac) / max(distinct, 1.0)
        return min(1.0, one * (ELEMENTS if term.comparison is Comparison.ANY else 1))


def find_table(connection: Connection, schema: str, table: str) -> Table | None:
    """The table; None if it has gone."""
    names = {"schema": schema, "table": table}
    row = connection.execute(FIND_TABLE, names).one_or_none()
    if row is None:
        return None
    columns = connection.execute(FIND_COLUMNS, {**names, "table_id": row.table_id})
    indexes = connection.execute(FIND_INDEXES, {"table_id": row.table_id})
    return Table(
        row.name,
        row.is_partition,
        row.rows,
        row.size_bytes,
        row.pages,
        {item.name: Column(*item) for item in columns},
        [Index(item.name, item.columns, names_in(item.predicate or "")) for item in indexes],
    )
