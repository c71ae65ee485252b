"""What would make Postgres faster, read from its own statistics; nothing is executed, and nothing is changed.

``pg_stat_statements`` names the statements that cost most: https://www.postgresql.org/docs/15/pgstatstatements.html.
"""

from runtime.database.advice.examination import TooBusy, advise
from runtime.database.advice.report import Advice, Bounds, Report, Topic

__all__ = ["Advice", "Bounds", "Report", "TooBusy", "Topic", "advise"]
