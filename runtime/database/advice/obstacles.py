"""Why the statistics of statements can't be read, and the line that changes it."""

from typing import Final

from sqlalchemy import Connection, Row, text

from runtime.database.advice.report import Advice, Topic
from runtime.database.advice.statements import EXTENSION, MARK

WHY: Final = "without it nobody can say which statements cost most, and which of them want an index"
CREATE: Final = f"CREATE EXTENSION {EXTENSION};"
UPDATE: Final = f"ALTER EXTENSION {EXTENSION} UPDATE;"
#: What the extension says to a reader where it was not loaded (``object_not_in_prerequisite_state``), where the role
#: may not read, and where it is of an earlier release.
NOT_LOADED: Final = "55000"
NO_RIGHT: Final = "42501"
NO_COLUMN: Final = "42703"
#: Statements of ours matter little if others take this part of the time.
MOST_OF_OTHERS: Final = 0.5

#: Null: the role may not know.
STATE: Final = text(f"""
    SELECT {MARK} EXISTS (SELECT FROM pg_extension WHERE extname = :name) AS created,
           EXISTS (SELECT FROM pg_available_extensions WHERE name = :name) AS available,
           (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries') AS loaded
""")  # noqa: S608  a constant


def missing(connection: Connection) -> Advice | None:
    """What to install, load or create; None if the extension is there."""
    row = connection.execute(STATE, {"name": EXTENSION}).one()
    if row.created:
        return None
    if not row.available:
        return _obstacle("is not installed", "apt install postgresql-contrib, or your system's package of that name")
    if row.loaded is not None and EXTENSION not in row.loaded:
        return _obstacle("is not loaded", _load(row))
    return _obstacle("is not in this database", CREATE)


def role_of(connection: Connection) -> str:
    """The role that looks, quoted."""
    return str(connection.execute(text(f"SELECT {MARK} quote_ident(current_user)")).scalar_one())


class Unreadable(Exception):
    """Postgres refused to tell the statistics; ``code`` is its SQLSTATE."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def not_readable(code: str, role: str) -> Advice:
    """What to do about an extension that is there but does not answer."""
    if code == NOT_LOADED:
        return _obstacle("is not loaded", _load(None))
    if code == NO_RIGHT:
        return _obstacle("can't be read by this role", f"GRANT SELECT ON {EXTENSION} TO {role};")
    return _obstacle("is of an earlier release than the server", UPDATE)


def of_others(role: str, statements: int, share: float) -> list[Advice]:
    """That most of the time went to statements of other roles, if it did."""
    if share < MOST_OF_OTHERS:
        return []
    return [
        Advice(
            Topic.STATISTICS,
            EXTENSION,
            f"{statements} statements of other roles than {role} took {share:.0%} of the time",
            "only a role's own are looked at: a plan may call functions in a statement, with the rights of who plans",
            "set HEADRACE_DATABASE to the address that Headrace's processes use",
        )
    ]


def _load(row: Row[tuple[object, ...]] | None) -> str:
    loaded = [name.strip() for name in row.loaded.split(",") if name.strip()] if row else []
    names = ",".join([*loaded, EXTENSION])
    return f"shared_preload_libraries = '{names}' in postgresql.conf, a restart, and {CREATE}"


def _obstacle(what: str, step: str) -> Advice:
    return Advice(Topic.STATISTICS, EXTENSION, f"{EXTENSION} {what}", WHY, step)
