"""How many jobs of each tenant wait."""

from typing import Final

from sqlalchemy import Connection, text

COUNT_WAITING: Final = text("SELECT tenant, count(*) AS jobs FROM jobs WHERE state = 'queued' GROUP BY tenant")


def waiting(connection: Connection) -> dict[str, int]:
    """The queued jobs of each tenant that has any."""
    return {row.tenant: row.jobs for row in connection.execute(COUNT_WAITING)}
