"""The rows of checkpoints without Postgres."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, cast

from sqlalchemy import Connection

from runtime.database import Database
from runtime.database import checkpoints as rows
from runtime.database.checkpoints import Checkpoint, EndedCheckpoint
from runtime.database.thread import DatabaseThread
from schemas.events import Lease

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")


class Rows(DatabaseThread):
    """One job's row, and whether its lease is held. While ``away`` it gives no answer."""

    def __init__(self) -> None:
        super().__init__(Database("postgresql+psycopg2://nobody@127.0.0.1:1/none"))
        self.row: Checkpoint | None = None
        self.held = True
        self.ended = False
        self.away = False

    async def insist(self, work: Callable[[Connection, *Arguments], Answer], *arguments: *Arguments) -> Answer:
        """The answer."""
        if self.away:
            await asyncio.Event().wait()
        return cast(Answer, self._answer(work, arguments))

    def _answer(self, work: object, arguments: tuple[object, ...]) -> object:
        if work is rows.find:
            return self.row
        if work is rows.save:
            _, checkpoint = arguments
            assert isinstance(checkpoint, Checkpoint)
            if self.held:
                self.row = checkpoint
            return self.held
        if work is rows.ended:
            return [EndedCheckpoint("anna", "job-1", self.row)] if self.row and self.ended else []
        assert work is rows.delete
        if arguments != ([],):
            self.row = None
        return None


LEASE = Lease("anna", "job-1", 1, "worker-1")
