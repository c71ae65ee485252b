"""The relay while the partitions move, without a server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest

from runtime.database import outbox
from runtime.database.outbox import Batch, Position, Waiting
from runtime.database.thread import DatabaseThread
from runtime.kafka_transactions import Outgoing
from runtime.monitoring import Metrics
from schemas import topics
from schemas.codec import decode, encode
from schemas.events import State, StatusEvent
from schemas.results import ErrorInfo, ResultEvent, Terminal
from schemas.topics import Kind
from streams import relay as module
from streams.instruments import Instruments
from streams.relay import Relay
from tests.unit.streams.records import NOW, TRACE

RESULT = ResultEvent(
    job_id="a",
    tenant="t",
    kind=Kind.GENERATE,
    status=Terminal.FAILED,
    attempt=1,
    finished_at=NOW,
    error=ErrorInfo("invalid_request", "max_tokens is 0", retryable=False),
)
ROW = Waiting(Position(7, "t", "a"), TRACE, encode(RESULT), State.REJECTED)


class OneRow(DatabaseThread):
    """An outbox with one row; ``on_read`` is called while it is read."""

    def __init__(self, on_read: Callable[[], None]) -> None:
        self._on_read = on_read
        self._rows: tuple[Waiting, ...] = (ROW,)

    async def run(self, work: Callable[..., Any], *_arguments: Any) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        if work is outbox.identity:
            return "here"
        if work is outbox.waiting:
            self._on_read()
            rows, self._rows = self._rows, ()
            return Batch(rows, through=ROW.position)
        return None


class Results:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self.records: Sequence[Outgoing] = ()

    async def open(self, _source: str) -> bool:
        return True

    async def landed(self, _since: datetime) -> AsyncIterator[Sequence[str]]:
        yield ()

    async def append(self, records: Sequence[Outgoing]) -> None:
        self.records = records
        self.taken.set()


def test_a_result_and_its_state_are_published_though_the_partitions_move_while_the_outbox_is_read() -> None:
    async def scenario() -> None:
        def moved() -> None:
            relay.assign(owner=False)
            relay.assign(owner=True)

        results = Results()
        relay = Relay(OneRow(moved), results, Instruments(Metrics("test")))
        relay.assign(owner=True)
        running = asyncio.create_task(relay.run())
        taken = asyncio.create_task(results.taken.wait())
        await asyncio.wait([running, taken], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert not running.done()
        assert results.taken.is_set()
        result, status = results.records
        assert (result.topic, result.value) == (topics.RESULTS.name, encode(RESULT))
        told: StatusEvent = decode(StatusEvent, status.value)
        assert status.topic == topics.STATUS.name
        assert (told.job_id, told.state, told.reason) == ("a", State.REJECTED, "max_tokens is 0")
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(scenario())


def test_after_results_it_looks_for_more_though_nobody_tells_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        reads = 0
        looked_again = asyncio.Event()

        def read() -> None:
            nonlocal reads
            reads += 1
            # The first finds the row, and the second that it was the last.
            if reads == 3:
                looked_again.set()

        relay = Relay(OneRow(read), Results(), Instruments(Metrics("test")))
        relay.assign(owner=True)
        running = asyncio.create_task(relay.run())
        async with asyncio.timeout(10):
            await looked_again.wait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    monkeypatch.setattr(module, "INTERVAL_S", 3_600.0)
    asyncio.run(scenario())
