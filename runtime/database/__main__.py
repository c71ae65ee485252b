"""``python -m runtime.database upgrade``: create or migrate the tables of ``HEADRACE_DATABASE``."""

import os
import sys

from runtime.database.engine import Database
from runtime.database.migrate import upgrade
from runtime.settings import Settings
from schemas.errors import HeadraceError


def main(arguments: list[str]) -> int:
    """Exit status 0 when the schema is up to date, 2 for a wrong call, 4 when Postgres can't be reached."""
    if arguments != ["upgrade"]:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        database = Database(Settings.from_env(os.environ).database)
        upgrade(database)
    except HeadraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
