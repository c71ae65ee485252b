"""Up to where the wishes of the control topic were carried out: noted in the transaction that did so, so each is once.

Two dispatchers have a partition while it moves. The one that had it may come late, with wishes that the next one has
carried out already, and newer ones that take them back: it finds here that its own are done.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, text

from runtime.database.wishes import Wish

#: Makes the rows of the partitions where there are none, and locks them, in one order.
LOCK_POSITIONS: Final = text("""
    INSERT INTO carried_out AS known (topic, partition, "offset", written_ms)
    SELECT topic, partition, -1, -1
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[])) AS item(topic, partition)
    ON CONFLICT (topic, partition) DO UPDATE SET "offset" = known."offset"
    RETURNING topic, partition, "offset", written_ms
""")

SAVE_POSITIONS: Final = text("""
    UPDATE carried_out
    SET "offset" = item."offset", written_ms = greatest(carried_out.written_ms, item.written_ms)
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]),
                CAST(:written AS bigint[])) AS item(topic, partition, "offset", written_ms)
    WHERE carried_out.topic = item.topic AND carried_out.partition = item.partition
""")


def divide(connection: Connection, wishes: Sequence[Wish]) -> tuple[list[Wish], list[Wish]]:
    """The wishes that were carried out before, and the others, which the caller carries out in this transaction.

    Those without a source are others. Until the transaction ends, nobody else carries out wishes of the same
    partitions. A record that is younger than all before it is new whatever its offset: its topic was made anew.
    """
    places = sorted({(wish.source.topic, wish.source.partition) for wish in wishes if wish.source})
    if not places:
        return [], list(wishes)
    columns = {"topics": [topic for topic, _ in places], "partitions": [number for _, number in places]}
    known = {(row.topic, row.partition): row for row in connection.execute(LOCK_POSITIONS, columns)}

    def is_done(wish: Wish) -> bool:
        if wish.source is None:
            return False
        row = known[wish.source.topic, wish.source.partition]
        return bool(wish.source.offset <= row.offset and wish.written_ms <= row.written_ms)

    done = [wish for wish in wishes if is_done(wish)]
    new = [wish for wish in wishes if not is_done(wish)]
    _save(connection, new)
    return done, new


def _save(connection: Connection, wishes: Sequence[Wish]) -> None:
    offsets: dict[tuple[str, int], int] = {}
    written_ms: dict[tuple[str, int], int] = {}
    for wish in wishes:
        if wish.source:
            place = (wish.source.topic, wish.source.partition)
            offsets[place] = wish.source.offset
            written_ms[place] = max(wish.written_ms, written_ms.get(place, -1))
    if offsets:
        connection.execute(
            SAVE_POSITIONS,
            {
                "topics": [topic for topic, _ in offsets],
                "partitions": [number for _, number in offsets],
                "offsets": list(offsets.values()),
                "written": list(written_ms.values()),
            },
        )
