"""The relay while the partitions move, without a server."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from runtime.database import outbox
from runtime.database.outbox import Batch, Position, Waiting
from runtime.database.thread import DatabaseThread
from runtime.kafka_transactions import Outgoing
from runtime.monitoring import Metrics
from streams.instruments import Instruments
from streams.relay import Relay
from tests.unit.streams.records import TRACE

ROW = Waiting(Position(7, "t", "a"), TRACE, b"{}")


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
            return Batch(rows, held_back=False)
        return None


class Results:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()

    async def open(self) -> str | None:
        return None

    async def append(self, _records: Sequence[Outgoing], _cursor: str) -> None:
        self.taken.set()


def test_partitions_that_move_while_the_outbox_is_read_do_not_end_the_relay() -> None:
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
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
