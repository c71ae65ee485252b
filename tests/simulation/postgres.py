"""A model of Postgres: transactions that take time, commit in another order than they began, fail, and lose answers."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runtime.database.thread import DatabaseThread
from schemas.errors import ServerUnreachable
from tests.simulation.clock import at
from tests.simulation.loop import PROCESS, Process, SimLoop
from tests.simulation.statements import READERS, Statement
from tests.simulation.tables import Tables, Transaction

#: A client that was frozen holds its transaction open; the server looks again after so long.
HELD_S: Final = 0.5
#: Now and then a part of an exchange takes so many times as long; the longest there is, in times of the latency.
STRETCH: Final = 20.0
LONGEST_PART: Final = STRETCH * 1.5


@dataclass
class Weather:
    """How a server does at the moment, as the faults have it."""

    #: The mean time of each part of an exchange.
    latency_s: float = 0.004
    #: How likely an exchange fails before, and after it had its effect.
    refused: float = 0.0
    lost: float = 0.0
    away: bool = False


Witness = Callable[[Statement, tuple[Any, ...], Tables, Transaction], Any]


@dataclass
class _Request:
    process: Process
    future: "asyncio.Future[Any]"
    statement: Statement
    arguments: tuple[Any, ...]
    line: "_Line"


class _Line:
    """One connection: its transactions take turns."""

    def __init__(self) -> None:
        self.waiting: deque[_Request] = deque()
        self.busy = False


class Postgres:
    """The server. ``execute`` runs a statement at its commit, and is where the invariants look on."""

    def __init__(self, loop: SimLoop, rng: random.Random, world: Process) -> None:
        self.loop = loop
        self.tables = Tables()
        self.weather = Weather()
        self.execute: Witness = lambda statement, arguments, tables, tx: statement(tables, tx, *arguments)
        #: Told of a function that the model does not have.
        self.on_stranger: Callable[[str], None] = lambda _name: None
        self._rng = rng
        self._world = world
        self._next_number = 1
        self._open: set[int] = set()
        self._life = 0
        self.closed = False

    def crash(self) -> None:
        """Break every transaction that runs."""
        self._life += 1
        self._open.clear()

    def begin(self, request: _Request) -> None:
        """Send the client's transaction on its way."""
        self.loop.call_in(self._world, self._delay(), self._begin, request)

    def _begin(self, request: _Request) -> None:
        if self.weather.away:
            self._answer(request, error="the server is away", delay_s=self._rng.choice((0.01, 0.05, 1.0)))
            return
        if not request.process.alive or self._rng.random() < self.weather.refused:
            self._answer(request, error="connection reset by peer")
            return
        number = self._next_number
        self._next_number += 1
        self._open.add(number)
        moment = (number, self.loop.time(), self._life)
        if request.statement in READERS:
            self._commit(request, moment)
            return
        self.loop.call_in(self._world, self._delay(), self._commit, request, moment)

    def _commit(self, request: _Request, moment: tuple[int, float, int]) -> None:
        number, began_s, life = moment
        process = request.process
        if life == self._life and process.frozen and process.alive and self._rng.random() < 0.5:
            self.loop.call_in(self._world, HELD_S, self._commit, request, moment)
            return
        broken = life != self._life or (not process.alive and self._rng.random() < 0.5)
        if broken or self.closed:
            self._open.discard(number)
            self._answer(request, error="the connection was closed in the transaction")
            return
        tx = Transaction(number, at(began_s), min(self._open))
        # The rows are seen from here on; only then is the transaction no longer among those that run.
        try:
            answer = self.execute(request.statement, request.arguments, self.tables, tx)
        except Exception as error:
            self._open.discard(number)
            self._answer(request, error=error)
            return
        self._open.discard(number)
        lost = self._rng.random() < self.weather.lost
        self._answer(request, answer, error="the answer was lost" if lost else None)

    def _answer(
        self,
        request: _Request,
        answer: object = None,
        *,
        error: str | Exception | None = None,
        delay_s: float | None = None,
    ) -> None:
        delay_s = self._delay() if delay_s is None else delay_s
        reason = ServerUnreachable("Postgres", "model", error) if isinstance(error, str) else error
        self.loop.call_in(request.process, delay_s, _finish, self, request, answer, reason)

    def _delay(self) -> float:
        stretch = STRETCH if self._rng.random() < 0.06 else 1.0
        return self.weather.latency_s * stretch * (0.5 + self._rng.random())


def _finish(server: Postgres, request: _Request, answer: object, reason: Exception | None) -> None:
    if not request.future.done():
        if reason:
            request.future.set_exception(reason)
        else:
            request.future.set_result(answer)
    request.line.busy = False
    _next(server, request.line)


def _next(server: Postgres, line: _Line) -> None:
    while line.waiting and not line.busy:
        request = line.waiting.popleft()
        if not request.future.done():
            line.busy = True
            server.begin(request)


class SimDatabase(DatabaseThread):
    """A process' connection to the model."""

    def __init__(self, server: Postgres, statements: Mapping[Any, Statement]) -> None:
        self._server = server
        self._statements = statements
        self._line = _Line()
        self._turn = asyncio.Lock()

    async def in_turn(self, work: Callable[..., Any], *arguments: Any) -> Any:  # type: ignore[override]
        async with self._turn:
            return await self.insist(work, *arguments)

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:  # type: ignore[override]
        statement = self._statements.get(work)
        if statement is None:
            self._server.on_stranger(f"the model has no {work.__module__}.{work.__qualname__}")
            raise NotImplementedError(work.__qualname__)
        future = self._server.loop.create_future()
        self._line.waiting.append(_Request(PROCESS.get(), future, statement, arguments, self._line))
        _next(self._server, self._line)
        return await future

    def close(self) -> None:
        """Nothing is open."""
