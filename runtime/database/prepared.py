"""Statements that Postgres parses and plans once for a connection, not each time they run.

A batch of one row costs more planning than work. psycopg2 has no prepared statements of its own; this sends
``PREPARE`` the first time that a connection meets a statement, and ``EXECUTE`` from then on:
https://www.postgresql.org/docs/15/sql-prepare.html. Batches are passed as array literals, for psycopg2 quotes each
value by itself: https://www.postgresql.org/docs/15/arrays.html#ARRAYS-INPUT.
"""

import re
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from types import NoneType
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Engine, TextClause, event, text

#: How long a plan is kept: one that was made for a small table reads all of it when it has grown, and Postgres makes
#: another one by itself only after the table was analyzed. The plans of foreign keys are given up along with ours.
PLANS_S: Final = 5.0
OPTION: Final = "headrace_prepared"
KNOWN: Final = "headrace.prepared"
PLANNED: Final = "headrace.planned_s"

#: Not float: JSON knows no infinity.
_LITERAL: Final = frozenset({str, int, bool, datetime, NoneType})
#: A JSON string's escapes that mean something else in an array literal.
_JSON_ALONE: Final = re.compile(r'\\[^"\\]')
_PLACE: Final = re.compile(r"CAST\(%\((\w+)\)s AS ([\w ]+(?:\[\])?)\)|%\((\w+)\)s|%%")


class _Prepared(NamedTuple):
    name: str
    prepare: str
    execute: str


def prepared(sql: str) -> TextClause:
    """A statement that is worth preparing. Parameters are cast where their place does not tell their type."""
    return text(sql).execution_options(**{OPTION: True})


def prepare_statements(engine: Engine) -> None:
    """Have the engine's connections prepare what is marked; for all else, and for who looks on, nothing changes."""
    event.listen(engine, "do_execute", _execute)


def _execute(cursor: Any, statement: str, parameters: Mapping[str, object], context: Any) -> bool | None:
    if not context.execution_options.get(OPTION):
        return None
    info = context.root_connection.connection.info
    known: set[str] = info.setdefault(KNOWN, set())
    ours = _prepared(statement)
    if ours.name not in known:
        cursor.execute(ours.prepare)
        known.add(ours.name)
    now_s = time.monotonic()
    if now_s - info.setdefault(PLANNED, now_s) >= PLANS_S:
        cursor.execute("DISCARD PLANS")
        info[PLANNED] = now_s
    cursor.execute(ours.execute, {name: _literal(value) for name, value in parameters.items()})
    return True


def _literal(value: object) -> object:
    return array_literal(value) if isinstance(value, list) else value


def array_literal(values: list[Any]) -> object:
    """A list of texts, numbers, times and nulls as Postgres reads it; whatever else it is, psycopg2 quotes it.

    But for its brackets it is written as in JSON, where no text has control characters.
    """
    if not set(map(type, values)) <= _LITERAL:
        return values
    json = msgspec.json.encode(values).decode()
    # Those of a backslash are two: what follows them begins no escape.
    return values if _JSON_ALONE.search(json.replace(r"\\", "")) else f"{{{json[1:-1]}}}"


@cache
def _prepared(statement: str) -> _Prepared:
    numbers: dict[str, int] = {}
    arguments: dict[str, str] = {}

    def numbered(place: re.Match[str]) -> str:
        cast_name, type_name, bare_name = place.groups()
        name = cast_name or bare_name
        if name is None:
            return "%"
        number = numbers.setdefault(name, len(numbers) + 1)
        # The value is cast as it is written: an array of nulls alone would be taken for one of texts.
        arguments.setdefault(name, place[0])
        return f"CAST(${number} AS {type_name})" if type_name else f"${number}"

    body = _PLACE.sub(numbered, statement)
    name = f"headrace_{sha256(statement.encode()).hexdigest()[:16]}"
    listed = f" ({', '.join(arguments.values())})" if arguments else ""
    return _Prepared(name, f"PREPARE {name} AS {body}", f"EXECUTE {name}{listed}")
