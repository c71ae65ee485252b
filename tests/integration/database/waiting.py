"""Waits of one transaction for another."""

import time

from sqlalchemy import text

from runtime.database import Database


def wait_for_lock(database: Database) -> None:
    """Wait until a transaction waits for another."""
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        with database.begin() as connection:
            if connection.execute(waits).scalar_one():
                return
    raise AssertionError("nobody waits")
