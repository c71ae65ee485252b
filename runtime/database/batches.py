"""Batches of rows: inserted from arrays, or copied; each in one statement, however many they are.

``Copy`` is the faster one for many rows that are only added, ``Insert`` for rows of which some may be there already.
Both are called with a connection and rows, inside a transaction of the caller's; a ``GroupCommit`` does so too.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, event, text

from runtime.database.columns import Columns, Row, Texts
from runtime.database.prepared import array_literal, prepared

OPTION: Final = "headrace_copied"
#: How much of a batch the driver asks for at once.
PIECE_BYTES: Final = 256 * 1024
_TABLE: Final = re.compile(r"[a-z_][a-z0-9_]*")


class Insert:
    """Adds rows by one prepared ``INSERT … SELECT … FROM unnest(…)``.

    With ``keys``, the names of a unique key's columns, a row whose key is there already changes nothing, and so a batch
    may be repeated; of two rows with one key the first counts.
    """

    def __init__(self, table: str, columns: Columns, keys: Sequence[str] = ()) -> None:
        self._columns = columns
        self._keys = tuple(keys)
        order = f'ORDER BY "#" {_on_conflict(keys)}' if keys else ""
        self._statement = prepared(
            f"INSERT INTO {_known(table)} ({columns.listed()}) SELECT {columns.listed()} "  # noqa: S608
            f"FROM {unnest(columns)} {order}"
        )

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> list[bool]:
        """Add rows; of each whether it is new, in their order.

        Raises:
            UnfitValue: a value is not of its column's type; nothing was sent (final).
        """
        if not rows:
            return []
        returned = connection.execute(self._statement, arrays(self._columns, rows))
        return _are_new(self._columns, self._keys, rows, returned)


class Copy:
    """Adds rows by ``COPY … FROM STDIN``; with ``keys`` as ``Insert``, by way of a temporary table.

    That is slower than ``Insert``, but takes columns that are lists too.
    """

    def __init__(self, table: str, columns: Columns, keys: Sequence[str] = ()) -> None:
        self._columns = columns
        self._keys = tuple(keys)
        names, staged = columns.listed(), f"staged_{_known(table)}"
        types = ", ".join(f'"{column.name}" {column.type_name}' for column in columns.columns)
        # What an earlier batch of the same transaction has left there must not be added again.
        self._stage = text(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} ({types}) ON COMMIT DELETE ROWS; DELETE FROM {staged}"  # noqa: S608
        )
        self._copy = f"COPY {staged if keys else table} ({names}) FROM STDIN"
        self._insert = text(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM {staged} ORDER BY ctid {_on_conflict(keys)}"  # noqa: S608
        )

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> list[bool]:
        """Add rows; of each whether it is new, in their order.

        Raises:
            UnfitValue: a value is not of its column's type; nothing was sent (final).
        """
        if not rows:
            return []
        lines = {"lines": copy_lines(self._columns, rows)}
        if self._keys:
            connection.execute(self._stage)
        connection.exec_driver_sql(self._copy, lines, execution_options={OPTION: True})
        returned = connection.execute(self._insert) if self._keys else ()
        return _are_new(self._columns, self._keys, rows, returned)


def unnest(columns: Columns) -> str:
    """Rows of a FROM clause, as ``item``, with a number ``"#"`` from 1; ``arrays`` gives its parameters.

    Raises:
        ValueError: a column is a list, which ``unnest`` would take apart too (a bug).
    """
    if lists := [column.name for column in columns.columns if column.is_list]:
        raise ValueError(f"{', '.join(lists)}: unnest takes lists of lists apart; use Copy")
    places = ", ".join(f"CAST(:{column.name} AS {column.type_name}[])" for column in columns.columns)
    return f'unnest({places}) WITH ORDINALITY AS item({columns.listed()}, "#")'


def arrays(columns: Columns, rows: Sequence[Row]) -> dict[str, object]:
    """The rows as one array literal a column, by the column's name.

    Raises:
        UnfitValue: a value is not of its column's type (final).
    """
    return {
        column.name: array_literal(texts) if column.is_quoted else f"{{{','.join(_or_null(texts, 'NULL'))}}}"
        for column, texts in zip(columns.columns, columns.texts(rows), strict=True)
    }


def copy_lines(columns: Columns, rows: Sequence[Row]) -> bytes:
    """The rows in COPY's text format: https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.2.

    Raises:
        UnfitValue: a value is not of its column's type (final).
    """
    if not rows:
        return b""
    fields = [
        _escaped(texts) if column.is_quoted else _or_null(texts, r"\N")
        for column, texts in zip(columns.columns, columns.texts(rows), strict=True)
    ]
    return ("\n".join(map("\t".join, zip(*fields, strict=True))) + "\n").encode()


def copy_batches(engine: Engine) -> None:
    """Have the engine's connections copy what is marked; errors are told and connections kept as of any statement."""
    event.listen(engine, "do_execute", _execute)


def _execute(cursor: Any, statement: str, parameters: Mapping[str, bytes], context: Any) -> bool | None:
    if not context.execution_options.get(OPTION):
        return None
    cursor.copy_expert(statement, BytesIO(parameters["lines"]), PIECE_BYTES)
    return True


def _escaped(texts: Texts) -> list[str]:
    r"""The texts with COPY's escapes, null as ``\N``. All at once: between them lies a 0, which no text has."""
    together = "\0".join(_or_null(texts, ""))
    # No control character: most texts are as they are.
    if "\\" not in together and together.replace("\0", "").isprintable():
        return _or_null(texts, r"\N")
    together = together.replace("\\", r"\\").replace("\n", r"\n").replace("\r", r"\r").replace("\t", r"\t")
    return [r"\N" if text is None else field for text, field in zip(texts, together.split("\0"), strict=True)]


def _or_null(texts: Texts, null: str) -> list[str]:
    return [null if text is None else text for text in texts] if None in texts else cast(list[str], texts)


def _on_conflict(keys: Sequence[str]) -> str:
    listed = ", ".join(f'"{key}"' for key in keys)
    return f"ON CONFLICT ({listed}) DO NOTHING RETURNING {listed}"


def _are_new(
    columns: Columns, keys: Sequence[str], rows: Sequence[Row], returned: Iterable[Sequence[Any]]
) -> list[bool]:
    """Of each row whether its key was returned, the first of those that share one."""
    if not keys:
        return [True] * len(rows)
    places = [columns.names.index(key) for key in keys]
    new = {tuple(row) for row in returned}
    answers = []
    for row in rows:
        key = tuple(row[place] for place in places)
        answers.append(key in new)
        new.discard(key)
    return answers


def _known(table: str) -> str:
    if not _TABLE.fullmatch(table):
        raise ValueError(f"{table!r} is no table's name in small letters")
    return table
