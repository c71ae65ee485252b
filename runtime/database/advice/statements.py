"""The statements that cost most, as ``pg_stat_statements`` has them, and which of them may be planned."""

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from runtime.database.advice.report import Bounds

#: In every statement of the examination, so that it does not examine itself.
MARK: Final = "/* headrace doctor */"
EXTENSION: Final = "pg_stat_statements"
#: No statement worth an index is longer, and a plan of it would take its time.
LONGEST: Final = 20_000
#: What prepared statements are recorded as; the names of their parameters' types may stand in parentheses.
_PREPARE: Final = re.compile(
    r"\s*PREPARE\s+(?:\w+|\"(?:[^\"]|\"\")+\")\s*(?:\((?:[^()]|\([\d,\s]*\))*\))?\s+AS\s", re.I
)
_COMMENTS: Final = re.compile(r"(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/|\()*")
_READS: Final = re.compile(r"(?:SELECT|UPDATE|DELETE|WITH)\b|INSERT\b.*\b(?:SELECT|WITH)\b", re.I | re.S)

#: Constants that a parameter can't stand for, although the statistics have one in their place.
_FIELD: Final = re.compile(r"\b(extract\s*\(\s*)\$\d+(\s+FROM\b)", re.I)
_TYPED: Final = re.compile(r"\b(interval|date|time|timestamp|timestamptz)\s+(\$\d+)", re.I)
#: A condition that Postgres takes for a text once its constant is gone.
_CONDITION: Final = re.compile(r"\bTHEN\s+(\$\d+)\s+END\b", re.I)
_PARAMETER: Final = re.compile(r"(?<![\w$])\$(\d+)")

FIND_EXTENSION: Final = text(f"""
    SELECT {MARK} quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname = :name
""")  # noqa: S608  a constant

#: Only those of our own role: to plan a statement may call the functions in it, and those of another role would then
#: run with our rights.
COSTLIEST: Final = f"""
    SELECT {MARK} queryid, min(query) AS query, sum(calls)::bigint AS calls, sum(total_exec_time) AS total_ms,
           (sum(rows) / sum(calls))::double precision AS rows,
           (sum(shared_blks_hit + shared_blks_read) / sum(calls))::double precision AS blocks,
           (sum(temp_blks_written) / sum(calls))::double precision AS spilled
    FROM {{schema}}.pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND userid = (SELECT oid FROM pg_roles WHERE rolname = current_user)
      AND length(query) <= :longest AND query ~* '^[[:space:](]*(PREPARE|SELECT|INSERT|UPDATE|DELETE|WITH|--|/[*])'
      AND strpos(query, '{MARK}') = 0
    GROUP BY queryid
    HAVING sum(calls) >= :calls
    ORDER BY total_ms DESC
    LIMIT :most
"""  # noqa: S608

OF_OTHERS: Final = f"""
    SELECT {MARK} count(*) FILTER (WHERE other) AS statements,
           sum(total_exec_time) FILTER (WHERE other) / nullif(sum(total_exec_time), 0) AS share
    FROM (
        SELECT total_exec_time, userid <> (SELECT oid FROM pg_roles WHERE rolname = current_user) AS other
        FROM {{schema}}.pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND calls >= :calls
    ) AS statement
"""  # noqa: S608


@dataclass(frozen=True)
class Statement:
    """A statement with what it has cost; rows, and the blocks that it touched and spilled, are those of a call."""

    query_id: int
    text: str
    calls: int
    total_ms: float
    rows: float
    blocks: float
    spilled: float

    def shown(self, longest: int = 100) -> str:
        """Its beginning in one line."""
        line = " ".join(self.text.split())
        return line if len(line) <= longest else f"{line[: longest - 1]}…"


def find_schema(connection: Connection, extension: str) -> str | None:
    """The schema of an extension, quoted; None if this database has not got it."""
    schema: str | None = connection.execute(FIND_EXTENSION, {"name": extension}).scalar()
    return schema


def costliest(connection: Connection, schema: str, bounds: Bounds) -> list[Statement]:
    """Statements of our role that read tables, the one that cost most in total first."""
    rows = connection.execute(
        text(COSTLIEST.format(schema=schema)),
        # Some will be of another kind.
        {"longest": LONGEST, "calls": bounds.calls, "most": 3 * bounds.statements},
    )
    found = [Statement(row.queryid, body, *row[2:]) for row in rows if (body := readable(row.query)) is not None]
    return found[: bounds.statements]


def share_of_others(connection: Connection, schema: str, bounds: Bounds) -> tuple[int, float]:
    """How many statements other roles ran, and their part of the time."""
    row = connection.execute(text(OF_OTHERS.format(schema=schema)), {"calls": bounds.calls}).one()
    return row.statements, row.share or 0.0


def readable(query: str) -> str | None:
    """The SELECT, UPDATE, DELETE or INSERT from a SELECT that a recorded text is; None if it is none."""
    prepare = _PREPARE.match(query)
    body = query[prepare.end() :] if prepare else query
    beginning = _COMMENTS.match(body)
    start = beginning.end() if beginning else 0
    return body.strip().rstrip(";") if _READS.match(body, start) else None


def spellings(statement: str) -> list[str]:
    """The recorded text as Postgres may accept it again, the likeliest first; each has the same plan."""
    plain = _TYPED.sub(r"\2::\1", _FIELD.sub(r"\1epoch\2", statement))
    return [_numbered(text) for text in dict.fromkeys((plain, _CONDITION.sub(r"THEN \1::boolean END", plain)))]


def _numbered(statement: str) -> str:
    """With parameters that are numbered without a gap."""
    numbers: dict[str, int] = {}
    return _PARAMETER.sub(lambda match: f"${numbers.setdefault(match[1], len(numbers) + 1)}", statement)
