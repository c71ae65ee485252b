"""What the reconciler asks: which requests have their rows, and up to where they were compared."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, text

from runtime.database.admissions import SELECT_DIGESTS, Admission, Admitted, reread
from schemas.events import State

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
    rows = connection.execute(
        SELECT_DIGESTS, {"tenants": [row.tenant for row in admissions], "ids": [row.id for row in admissions]}
    )
    known = {(row.tenant, row.id): row for row in rows}
    fates: list[Admitted | None] = []
    for admission in admissions:
        row = known.get((admission.tenant, admission.id))
        if row is None:
            fates.append(None)
        elif (row.source_topic, row.source_partition, row.source_offset) == (
            admission.source.topic,
            admission.source.partition,
            admission.source.offset,
        ):
            fates.append(reread(admission, State(row.state)))
        else:
            same = row.request_sha256 == admission.request_sha256
            fates.append(Admitted.REPEATED if same else Admitted.CONFLICT)
    return fates


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
