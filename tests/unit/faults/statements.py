"""Every statement of the database, as the driver gets it."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from sqlalchemy import TextClause
from sqlalchemy.dialects import postgresql

from runtime import database

DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]


def statements() -> Mapping[str, str]:
    """All of them by their names."""
    modules = [import_module(f"{database.__name__}.{module.name}") for module in iter_modules(database.__path__)]
    return {
        name: str(value.compile(dialect=DIALECT))
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, TextClause)
    }
