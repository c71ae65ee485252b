"""Group commit: many threads and tasks hand in rows, and one transaction commits what has gathered.

One thread of its own writes, one transaction after the other, so rows are committed in the order in which they were
handed in. It is for rows that do not depend on each other: one that Postgres refuses is left out, the rest is stored.
"""

from runtime.database.group_commit.buffer import Bounds, GroupCommitClosed, RoomTimeout
from runtime.database.group_commit.pending import Pending
from runtime.database.group_commit.writer import GroupCommit, Statistics

__all__ = ["Bounds", "GroupCommit", "GroupCommitClosed", "Pending", "RoomTimeout", "Statistics"]
