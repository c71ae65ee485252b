"""Postgres' clock, the one by which leases and deadlines are judged: the machines' own may be wrong by an hour."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from runtime.database.prepared import prepared

NOW: Final = prepared("SELECT now() AS now")


def clock(connection: Connection) -> datetime:
    """What time it is for Postgres."""
    now: datetime = connection.execute(NOW, {}).scalar_one()
    return now
