"""The statements of ``runtime.database.checkpoints`` on the model's rows: see ``statements``."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from runtime.database import checkpoints
from runtime.database.checkpoints import Checkpoint, EndedCheckpoint
from schemas.events import Lease
from tests.simulation.statements import Statement, holder, reader
from tests.simulation.tables import CheckpointRow, Key, Tables, Transaction


def save(tables: Tables, tx: Transaction, lease: Lease, checkpoint: Checkpoint) -> bool:
    """As ``checkpoints.save``."""
    row = holder(tables, lease)
    if row is None:
        return False
    tables.checkpoints[row.key] = CheckpointRow(row.attempt, checkpoint, tx.now)
    return True


@reader
def find(tables: Tables, _tx: Transaction, tenant: str, job_id: str) -> Checkpoint | None:
    """As ``checkpoints.find``."""
    row = tables.checkpoints.get((tenant, job_id))
    return row.checkpoint if row else None


@reader
def ended(tables: Tables, _tx: Transaction, most: int) -> list[EndedCheckpoint]:
    """As ``checkpoints.ended``."""
    over = [(row.created_at, key) for key, row in tables.checkpoints.items() if tables.jobs[key].finished_at]
    over.sort(key=lambda item: (-item[0].timestamp(), item[1]))
    return [EndedCheckpoint(*key, tables.checkpoints[key].checkpoint) for _, key in over[:most]]


def delete(tables: Tables, _tx: Transaction, jobs: Sequence[Key]) -> None:
    """As ``checkpoints.delete``."""
    for key in jobs:
        if key in tables.checkpoints and tables.jobs[key].finished_at:
            del tables.checkpoints[key]


STATEMENTS: Final[dict[Callable[..., Any], Statement]] = {
    checkpoints.save: save,
    checkpoints.find: find,
    checkpoints.ended: ended,
    checkpoints.delete: delete,
}
