"""Clients' wishes that came before their jobs: they wait for as long as Kafka keeps requests.

Of each job the last wish is kept, a resume too: whoever admits the job, or meets the pause before it, may do so in
a transaction that has not seen the resume, which then has to be there for the next sweep.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, text

from runtime.database.wishes import noted
from schemas.codec import encode
from schemas.events import ControlEvent
from schemas.topics import DAY_MS

#: The last wish counts, but for a cancel, which no pause takes back.
REMEMBER_WISHES: Final = text("""
    INSERT INTO wishes (tenant, job_id, control, created_at)
    SELECT tenant, id, control::json, now()
    FROM unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:controls AS text[]))
         AS item(tenant, id, control)
    ON CONFLICT (tenant, job_id) DO UPDATE SET control = excluded.control, created_at = excluded.created_at
    WHERE excluded.control->>'action' = 'cancel' OR wishes.control->>'action' <> 'cancel'
""")

FORGET_WISHES: Final = text("""
    DELETE FROM wishes
    USING unnest(CAST(:tenants AS text[]), CAST(:ids AS text[])) AS item(tenant, id)
    WHERE wishes.tenant = item.tenant AND wishes.job_id = item.id
""")

#: Not what has replaced it since the job was admitted.
FORGET_NOTED: Final = text("""
    DELETE FROM wishes
    USING unnest(CAST(:tenants AS text[]), CAST(:ids AS text[]), CAST(:controls AS text[]))
          AS item(tenant, id, control)
    WHERE wishes.tenant = item.tenant AND wishes.job_id = item.id AND wishes.control::jsonb = item.control::jsonb
""")

FORGET_OLD_WISHES: Final = text("DELETE FROM wishes WHERE created_at < now() - make_interval(secs => :age_s)")

#: Taken away at once: whoever wants something else of the job meanwhile waits, and finds nothing to replace. What a
#: later release wants is left for it.
TAKE_MET: Final = text("""
    DELETE FROM wishes
    USING (
        SELECT wishes.tenant, wishes.job_id
        FROM wishes JOIN jobs ON jobs.tenant = wishes.tenant AND jobs.id = wishes.job_id
        WHERE wishes.created_at > now() - make_interval(secs => :age_s)
          AND wishes.control->>'action' IN ('cancel', 'pause', 'resume')
        ORDER BY wishes.tenant, wishes.job_id
        LIMIT :most
        FOR UPDATE OF wishes SKIP LOCKED
    ) AS met
    WHERE wishes.tenant = met.tenant AND wishes.job_id = met.job_id
    RETURNING wishes.control::text AS control
""")

#: A wish waits for its request for as long as Kafka keeps that.
WISH_AGE_S: Final = 7 * DAY_MS / 1_000
#: A wish and the admission of its job that do not see each other are so close: no transaction takes longer.
MEETING_S: Final = 60.0


def remember(connection: Connection, wishes: Sequence[ControlEvent]) -> None:
    """Keep wishes about jobs that are not there yet; ``admissions`` gives each job its own."""
    if wishes:
        connection.execute(REMEMBER_WISHES, _columns(wishes))


def forget(connection: Connection, jobs: Iterable[tuple[str, str]]) -> None:
    """Drop the wishes about these jobs, given as (tenant, id)."""
    keys = list(jobs)
    if keys:
        columns = {"tenants": [tenant for tenant, _ in keys], "ids": [job_id for _, job_id in keys]}
        connection.execute(FORGET_WISHES, columns)


def forget_noted(connection: Connection, wishes: Sequence[ControlEvent]) -> None:
    """Drop these wishes, which were noted with their jobs."""
    if wishes:
        connection.execute(FORGET_NOTED, _columns(wishes))


def forget_old(connection: Connection) -> None:
    """Drop the wishes whose request is not in Kafka any more."""
    connection.execute(FORGET_OLD_WISHES, {"age_s": WISH_AGE_S})


def take_met(connection: Connection, since_s: float, most: int) -> list[ControlEvent]:
    """Wishes whose job was admitted in the same moment, by a transaction that could not see them; now they are gone.

    Those that were looked for ``since_s`` seconds ago are not looked for again.
    """
    rows = connection.execute(TAKE_MET, {"age_s": min(since_s + MEETING_S, WISH_AGE_S), "most": most})
    return [wish for row in rows if (wish := noted(row.control))]


def _columns(wishes: Sequence[ControlEvent]) -> dict[str, object]:
    return {
        "tenants": [wish.tenant for wish in wishes],
        "ids": [wish.job_id for wish in wishes],
        "controls": [encode(wish).decode() for wish in wishes],
    }
