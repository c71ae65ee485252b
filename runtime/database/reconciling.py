"""What the reconciler asks: which requests have their rows, and up to where they were compared."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, text

from runtime.database.admissions import Admission, Admitted, compared, known

SELECT_POSITIONS: Final = text('SELECT topic, partition, "offset" FROM reconciled')

SAVE_POSITIONS: Final = text("""
    INSERT INTO reconciled (topic, partition, "offset")
    SELECT * FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]))
    ON CONFLICT (topic, partition) DO UPDATE SET "offset" = excluded."offset"
""")

#: A topic's name and the number of a partition.
Place = tuple[str, int]


def compare(connection: Connection, admissions: Sequence[Admission]) -> list[Admitted | None]:
    """What became of requests, in their order; None where the database does not know the id."""
    rows = known(connection, admissions)
    return [
        compared(admission, row) if (row := rows.get((admission.tenant, admission.id))) else None
        for admission in admissions
    ]


def positions(connection: Connection) -> dict[Place, int]:
    """The offset up to which each partition was compared."""
    return {(row.topic, row.partition): row.offset for row in connection.execute(SELECT_POSITIONS)}


def save_positions(connection: Connection, places: Mapping[Place, int]) -> None:
    """Note up to where partitions were compared."""
    connection.execute(
        SAVE_POSITIONS,
        {
            "topics": [topic for topic, _ in places],
            "partitions": [partition for _, partition in places],
            "offsets": list(places.values()),
        },
    )
