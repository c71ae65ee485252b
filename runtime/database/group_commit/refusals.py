"""What Postgres' errors say about a batch: which are the fault of a row, and which of none.

The classes are those of https://www.postgresql.org/docs/15/errcodes-appendix.html.
"""

from typing import Final

from sqlalchemy.exc import DBAPIError

from schemas.errors import ServerUnreachable

#: The driver counts a row that is too large for an index (class 54) among the outages, and a statement that took too
#: long: neither gets better by being tried again as it is.
_OF_ROWS: Final = ("54", "57014")
#: No such table or column, no right to it, no such schema, a feature that this Postgres does not have.
_OF_STATEMENTS: Final = ("42", "3F", "0A")


def refusal(error: ServerUnreachable) -> Exception | None:
    """What Postgres said, where it was not away but could not take these rows."""
    cause = error.__cause__
    return cause if isinstance(cause, DBAPIError) and _code(cause).startswith(_OF_ROWS) else None


def concerns_all(error: Exception) -> bool:
    """Whether every row would be refused for the same reason, so that there is none to look for."""
    return isinstance(error, DBAPIError) and _code(error).startswith(_OF_STATEMENTS)


def _code(error: DBAPIError) -> str:
    return getattr(error.orig, "pgcode", None) or ""
