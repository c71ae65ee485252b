"""Any order of borrows, cancellations, failures and returns: no place is lost, and nobody is overtaken."""

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.pools import AsyncLent, AsyncPool, Limits
from tests.unit.runtime.pools.fakes import Connection, Server

Answer = TypeVar("Answer")
SIZE: Final = 2


class Tasks(RuleBasedStateMachine):
    """Tasks that borrow from a pool of two, and lose their patience at any moment."""

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = Server()
        self.slow = False
        self.pool = AsyncPool(self.connect, self.shut, Limits(size=SIZE, maintain_every_s=None))
        self.numbers = itertools.count()
        #: The order in which they came, and in which they were served.
        self.asked: dict[asyncio.Task[AsyncLent[Connection]], int] = {}
        self.served: list[int] = []
        self.lent: list[AsyncLent[Connection]] = []

    async def connect(self) -> Connection:
        await asyncio.sleep(0)
        return self.server.connect()

    async def shut(self, connection: Connection) -> None:
        await asyncio.sleep(0)
        self.server.close(connection)

    def do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run_until_complete(work)

    @rule(fails=st.sampled_from([False, False, True]))
    def borrow(self, fails: bool) -> None:
        self.server.refusals += fails

        async def start() -> None:
            task = asyncio.create_task(self.one())
            self.asked[task] = next(self.numbers)

        self.do(start())

    async def one(self) -> AsyncLent[Connection]:
        return await self.pool.borrow(timeout_s=60)

    @rule(turns=st.integers(1, 6))
    def others_run(self, turns: int) -> None:
        for _ in range(turns):
            self.do(asyncio.sleep(0))
        for task in [task for task in self.asked if task.done()]:
            del self.asked[task]
            if not task.cancelled() and task.exception() is None:
                self.lent.append(task.result())

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(list(self.asked))).cancel()

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), broken=st.booleans())
    def end(self, data: st.DataObject, broken: bool) -> None:
        lent = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))

        async def give() -> None:
            if broken:
                asyncio.create_task(lent.discard())  # noqa: RUF006  # the pool keeps what matters of it
            else:
                lent.give_back()

        self.do(give())

    @invariant()
    def never_more_than_may_be(self) -> None:
        if hasattr(self, "server"):
            assert self.server.most_open <= SIZE
            assert len({id(lent.connection) for lent in self.lent}) == len(self.lent), "one connection, two borrowers"
            assert all(lent.connection.open for lent in self.lent)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.server.refusals = 0
        for task in self.asked:
            task.cancel()
        self.others_run(turns=30)
        for lent in self.lent:
            lent.give_back()

        async def all_there_is() -> None:
            for lent in await asyncio.gather(*(self.one() for _ in range(SIZE))):
                lent.give_back()
            stats = self.pool.stats()
            assert (stats.in_use, stats.waiting, stats.size) == (0, 0, stats.idle)
            assert await self.pool.close()

        self.do(asyncio.wait_for(all_there_is(), 5))
        self.loop.close()
        assert not self.server.open


TestTasks = Tasks.TestCase
TestTasks.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
