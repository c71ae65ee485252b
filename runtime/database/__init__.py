"""Postgres: the authority over jobs, leases, results and tuned models.

``python -m runtime.database upgrade`` brings the schema of ``HEADRACE_DATABASE`` up to date.
"""

from runtime.database.engine import Database

__all__ = ["Database"]
