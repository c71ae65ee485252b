"""What the examination found, and the bounds from which on something is worth a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

DAY_S = 24 * 3_600.0


class Topic(StrEnum):
    """What an advice is about."""

    #: What is missing for the examination itself.
    STATISTICS = "statistics"
    INDEX = "index"
    #: A statement that reads a whole table, and nobody but a person can say why.
    STATEMENT = "statement"
    SPILL = "spill"
    UNUSED_INDEX = "unused index"
    DUPLICATE_INDEX = "duplicate index"
    DEAD_ROWS = "dead rows"
    CACHE = "cache"


@dataclass(frozen=True)
class Advice:
    """What was seen, with its numbers; why it matters; and the next step, as a statement of SQL or what to do."""

    topic: Topic
    subject: str
    seen: str
    why: str
    step: str


@dataclass(frozen=True)
class Report:
    """The advice, and how many statements were planned, and could not be, or not within the time."""

    advice: Sequence[Advice]
    planned: int = 0
    skipped: int = 0


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much is looked at, and what is too small or too young to speak of."""

    #: The statements that cost most in total, and how long all of the examination and each plan may take.
    statements: int = 40
    time_s: float = 3.0
    statement_s: float = 0.5
    lock_s: float = 0.2
    #: One that ran less often may have been a person's.
    calls: int = 10
    #: A smaller table is read whole in about the time of a look into an index.
    table_rows: int = 10_000
    table_bytes: int = 1024**2
    #: A condition is selective if no more of the rows satisfy it.
    selective: float = 0.05
    #: A statement reads its table whole if a call touches at least this part of the table's blocks.
    read_share: float = 0.2
    #: A smaller index costs little, and a younger statistic says little.
    index_bytes: int = 1024**2
    unused_s: float = 7 * DAY_S
    #: Autovacuum comes by every minute, and needs its time.
    dead_rows: int = 10_000
    vacuum_s: float = 900.0
    #: Blocks that a statement writes to temporary files in a call: 10 MiB.
    spilled_blocks: int = 1_280
    cache_hits: float = 0.95
    cache_blocks: int = 1_000_000
